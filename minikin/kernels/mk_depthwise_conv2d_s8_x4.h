/* The depthwise conv2d of mk_depthwise_conv2d_s8.h for cores without SIMD, channel by channel. The inputs of a channel that
 * a row of outputs reads are copied as words, column by column, those of all kernel rows one behind the other, padding included:
 * a window is then one run of words, and the next one lies some columns on. The stream has for each channel
 *
 *     bias (with the input's zero point), mult, addend (3 int32), shift, weights by column (int8, filled up to a word)
 *
 * of mk_out_x4.h.
 */
struct mk_depthwise_conv2d_s8_x4 {
    int32_t in_w, in_ch, out_w, kernel_h, stride_h, stride_w, pad_left, dilation_h;
    int32_t out_ch, multiplier, taps;
    int32_t zero;    /* what stands for an input outside the frame */
    int32_t columns; /* that a row of outputs reads, padding included */
    int32_t low, act_min, act_max;
    const int32_t *stream;
    int32_t *buffer;
};

/* Columns of one row's inputs of a channel, padding where it is null; or of three rows'. */
static inline void mk_dw_x4_copy(int32_t *to, const int8_t *row, int32_t zero, int step, int height, int count) {
    for (; count > 0; --count, to += height) {
        *to = row ? *row : zero;
        if (row) row += step;
    }
}

#if MK_V6M
MK_NAKED void mk_dw_x4_copy3(MK_ARG int32_t *to, MK_ARG const int8_t *const rows[3], MK_ARG int step, MK_ARG int end) {
    __asm__(".syntax unified\n push {r4, r5, r6, r7, lr}\n mov r12, r3\n mov lr, r2\n ldmia r1!, {r4, r5, r6}\n movs r3, r0\n"
            "movs r0, r4\n movs r1, r5\n movs r2, r6\n movs r7, #0\n"
            "1: ldrsb r4, [r0, r7]\n ldrsb r5, [r1, r7]\n ldrsb r6, [r2, r7]\n stmia r3!, {r4, r5, r6}\n add r7, lr\n"
            "cmp r7, r12\n bne 1b\n pop {r4, r5, r6, r7, pc}\n");
}
#else
static inline void mk_dw_x4_copy3(int32_t *to, const int8_t *const rows[3], int step, int end) {
    const int8_t *a = rows[0], *b = rows[1], *c = rows[2];
    for (const int8_t *last = a + end; a != last; a += step, b += step, c += step, to += 3) to[0] = *a, to[1] = *b, to[2] = *c;
}
#endif

/* How a row of a channel's outputs is made. */
struct mk_dw_x4_row {
    struct mk_out_x4 numbers;
    int32_t low, bias, count, step; /* outputs, bytes from each to the next */
    int32_t next;                   /* words from a window to the next */
    const int8_t *w;
    int32_t *x; /* windows; a Cortex-M0+ writes over them */
};

#if MK_V6M
/* Sums of `count` windows of nine words, each where the window before the next one ends. */
#define MK_DW_X4_THREE "ldmia r0!, {r4, r5, r6}\n ldmia r1!, {r2, r3, r7}\n muls r2, r4\n muls r3, r5\n muls r7, r6\n"
MK_NAKED void mk_dw_x4_sums9(MK_ARG int32_t *x, MK_ARG const int32_t *w, MK_ARG int32_t bias, MK_ARG const int32_t *end,
                             MK_ARG int back) {
    /* r8: sum; r9: bias; r10: from a window's end to the last word before the next one; r11: w; r12: the end */
    __asm__(".syntax unified\n push {r4, r5, r6, r7, lr}\n mov r4, r8\n mov r5, r9\n mov r6, r10\n mov r7, r11\n"
            "push {r4, r5, r6, r7}\n mov r9, r2\n mov r11, r1\n mov r12, r3\n ldr r4, [sp, #36]\n mov r10, r4\n"
            "1: mov r1, r11\n" MK_DW_X4_THREE "adds r2, r2, r3\n adds r2, r2, r7\n add r2, r9\n mov r8, r2\n"
            MK_DW_X4_THREE "add r8, r2\n add r8, r3\n add r8, r7\n"
            MK_DW_X4_THREE "adds r2, r2, r3\n adds r2, r2, r7\n add r2, r8\n"
            "add r0, r10\n stmia r0!, {r2}\n cmp r0, r12\n bne 1b\n pop {r4, r5, r6, r7}\n"
            "mov r8, r4\n mov r9, r5\n mov r10, r6\n mov r11, r7\n pop {r4, r5, r6, r7, pc}\n");
}

/* Fitted outputs of sums that lie `next` bytes apart. */
MK_NAKED void mk_dw_x4_fitted(MK_ARG const int32_t *sums, MK_ARG const int32_t *end, MK_ARG int next, MK_ARG int8_t *out,
                              MK_ARG const struct mk_dw_x4_row *row) {
    /* r1, r2: halves of mult; r3: low; r4: shift; r7: out; r8: addend; r9, r10: bounds; r11: step; r12: end; lr: next */
    __asm__(".syntax unified\n push {r4, r5, r6, r7, lr}\n mov r4, r8\n mov r5, r9\n mov r6, r10\n mov r7, r11\n"
            "push {r4, r5, r6, r7}\n mov r12, r1\n mov lr, r2\n mov r11, r3\n ldr r7, [sp, #36]\n"
            "ldmia r7!, {r1, r2, r4, r5, r6}\n mov r8, r2\n mov r9, r5\n mov r10, r6\n ldr r3, [r7]\n ldr r5, [r7, #12]\n"
            "mov r7, r11\n mov r11, r5\n movs r2, r1\n asrs r2, r3\n movs r5, r2\n lsls r5, r3\n subs r1, r1, r5\n"
            "1: ldr r5, [r0]\n add r0, lr\n movs r6, r5\n muls r6, r1\n asrs r6, r3\n muls r5, r2\n adds r5, r5, r6\n"
            "add r5, r8\n asrs r5, r4\n cmp r5, r9\n bge 2f\n mov r5, r9\n 2: cmp r5, r10\n ble 2f\n mov r5, r10\n"
            "2: strb r5, [r7]\n add r7, r11\n cmp r0, r12\n bne 1b\n pop {r4, r5, r6, r7}\n"
            "mov r8, r4\n mov r9, r5\n mov r10, r6\n mov r11, r7\n pop {r4, r5, r6, r7, pc}\n");
}

static void mk_dw_x4_line9(const struct mk_dw_x4_row *row, const int32_t *w, int8_t *out) {
    int32_t *sum = row->x + row->next - 1;
    mk_dw_x4_sums9(row->x, w, row->bias, row->x + row->count * row->next, 4 * (row->next - 10));
    if (row->low) {
        mk_dw_x4_fitted(sum, sum + row->count * row->next, 4 * row->next, out, row);
    } else {
        for (int n = row->count; n > 0; --n, sum += row->next, out += row->step) *out = mk_out_x4_exact(&row->numbers, *sum);
    }
}
#else
static inline int32_t mk_dw_x4_dot3(int32_t sum, const int32_t *x, int32_t w0, int32_t w1, int32_t w2) {
    return sum + x[0] * w0 + x[1] * w1 + x[2] * w2;
}

/* Windows of three columns of three words: neighbours share two columns, or one where the stride is 2. */
static void mk_dw_x4_line9(const struct mk_dw_x4_row *row, const int8_t *w, int8_t *out) {
    const int32_t *x = row->x;
    const int32_t w0 = w[0], w1 = w[1], w2 = w[2], w3 = w[3], w4 = w[4], w5 = w[5], w6 = w[6], w7 = w[7], w8 = w[8];
    if (row->next == 3) {
        int32_t last = mk_dw_x4_dot3(mk_dw_x4_dot3(row->bias, x, w0, w1, w2), x + 3, w3, w4, w5);
        int32_t next = mk_dw_x4_dot3(row->bias, x + 3, w0, w1, w2);
        for (const int32_t *end = x + 3 * row->count; x != end; x += 3, out += row->step) {
            const int32_t x0 = x[6], x1 = x[7], x2 = x[8];
            *out = mk_out_x4(&row->numbers, last + x0 * w6 + x1 * w7 + x2 * w8, row->low);
            last = next + x0 * w3 + x1 * w4 + x2 * w5;
            next = row->bias + x0 * w0 + x1 * w1 + x2 * w2;
        }
    } else {
        for (const int32_t *end = x + row->next * row->count; x != end; x += row->next, out += row->step) {
            const int32_t two = mk_dw_x4_dot3(mk_dw_x4_dot3(row->bias, x, w0, w1, w2), x + 3, w3, w4, w5);
            *out = mk_out_x4(&row->numbers, mk_dw_x4_dot3(two, x + 6, w6, w7, w8), row->low);
        }
    }
}
#endif

static void mk_dw_x4_line(const struct mk_dw_x4_row *row, int taps, int8_t *out) {
    const int32_t *x = row->x;
    for (int n = row->count; n > 0; --n, x += row->next, out += row->step) {
        int32_t sum = row->bias;
        for (int k = 0; k < taps; ++k) sum += x[k] * row->w[k];
        *out = mk_out_x4(&row->numbers, sum, row->low);
    }
}

/* A row of a channel's inputs between padding. */
static inline void mk_dw_x4_columns(const struct mk_depthwise_conv2d_s8_x4 *p, const int8_t *const *in, int channel,
                                    int32_t *first, int inside) {
    const int height = p->kernel_h;
    for (int32_t *to = p->buffer; to != first; ++to) *to = p->zero;
    for (int32_t *to = first + inside * height, *end = p->buffer + p->columns * height; to != end; ++to) *to = p->zero;
    if (height == 3 && inside > 0 && in[0] && in[p->dilation_h] && in[2 * p->dilation_h]) {
        const int8_t *const rows[3] = {in[0] + channel, in[p->dilation_h] + channel, in[2 * p->dilation_h] + channel};
        mk_dw_x4_copy3(first, rows, p->in_ch, inside * p->in_ch);
        return;
    }
    for (int ky = 0; ky < height; ++ky, in += p->dilation_h)
        mk_dw_x4_copy(first + ky, *in ? *in + channel : NULL, p->zero, p->in_ch, height, inside);
}

MK_KERNEL static void mk_depthwise_conv2d_s8_x4(const struct mk_depthwise_conv2d_s8_x4 *p, const int8_t *const *in,
                                                int8_t *out, int rows) {
    const int before = mk_min(p->pad_left, p->columns), inside = mk_min(p->in_w, p->columns - before);
    const int32_t *stream = p->stream;
    for (int o = 0, channel = 0, left = p->multiplier; o < p->out_ch; ++o, stream += 3 + (p->taps + 4) / 4) {
        const int8_t *last = (const int8_t *)(stream + 3), *const *from = in;
        const struct mk_dw_x4_row row = {
            {stream[1], stream[2], last[0], p->act_min, p->act_max}, p->low, stream[0], p->out_w, p->out_ch,
            p->stride_w * p->kernel_h, last + 1, p->buffer};
        int8_t *to = out + o;
#if MK_V6M
        int32_t w[9];
        for (int k = 0; k < 9; ++k) w[k] = k < p->taps ? row.w[k] : 0;
#else
        const int8_t *w = row.w;
#endif
        for (int r = 0; r < rows; ++r, from += p->stride_h, to += p->out_w * p->out_ch) {
            mk_dw_x4_columns(p, from, channel, p->buffer + before * p->kernel_h, inside);
            if (p->taps == 9)
                mk_dw_x4_line9(&row, w, to);
            else
                mk_dw_x4_line(&row, p->taps, to);
        }
        if (--left == 0) ++channel, left = p->multiplier;
    }
}
