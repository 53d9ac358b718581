/* The conv2d of mk_conv2d_s8.h on DSP instructions: pixels are gathered and widened in pairs, then multiplied by mk_mat_s8.h.
 *
 * A pixel's inputs are `spans` runs of `span` adjacent bytes: one for each kernel row, or one for each tap where the
 * kernel is dilated. In the stream come the whole quads of all runs, then the bytes that are left over.
 */
struct mk_conv2d_s8_dsp {
    int32_t in_w, in_ch, out_w, stride_h, stride_w, pad_left, dilation_h, dilation_w;
    int32_t kernel_h, span_cols, span_taps; /* columns of a span, spans of a kernel row */
    int32_t zero;                           /* what stands for an input outside the frame */
    int32_t padded;                         /* whether any is */
    int32_t rest_bytes;                     /* in scratch memory, for the bytes left over of one pixel */
    int32_t last_column;                    /* of the first column of a window that ends in the frame */
    int32_t out_ch, quads, whole_words, twice, form, act_min, act_max;
    const int32_t *stream;
    int32_t *buffer; /* scratch: two pixels widened, then the bytes of a span */
};

/* A span's bytes: in the row itself, or put together in scratch memory where some are padding. */
static const int8_t *mk_conv2d_s8_dsp_span(const struct mk_conv2d_s8_dsp *p, const int8_t *row, int column, int8_t *span) {
    const int size = p->span_cols * p->in_ch;
    const int lo = row ? mk_clamp(-column, 0, p->span_cols) : p->span_cols;
    const int hi = mk_clamp(p->in_w - column, lo, p->span_cols);
    if (hi - lo == p->span_cols) return row + column * p->in_ch;
    int8_t *to = mk_fill_s8(span, (int8_t)p->zero, lo * p->in_ch);
    if (hi > lo) to = mk_append_s8(to, row, (column + lo) * p->in_ch, (hi - lo) * p->in_ch);
    mk_fill_s8(to, (int8_t)p->zero, size - (int)(to - span));
    return span;
}

/* Where the window of a pixel begins. */
struct mk_conv2d_s8_dsp_at {
    const int8_t *const *in;
    int column;
};

/* Two pixels whose inputs are widened: rows of pointers, offsets into the rows; how many rows, how many bytes from one
 * pointer to the next, quads in each row. */
struct mk_conv2d_s8_dsp_pair {
    const int8_t *const *in_a, *const *in_b;
    int32_t offset_a, offset_b, rows, step, quads;
};

/* Widen the quads of all rows, at least one in each, as mk_widen2 does; gives the place behind them. */
#if MK_DSP
#define MK_CONV_QUAD                                                                              \
    "ldr r1, [r9], #4\n ldr r8, [r10], #4\n sxtb16 r11, r1, ror #8\n sxtb16 r12, r8, ror #8\n" \
    "sxtb16 r1, r1\n sxtb16 r8, r8\n stmia.w r0!, {r1, r8, r11, r12}\n"
MK_ASM int32_t *mk_conv2d_s8_dsp_rows(MK_ARG int32_t *to, MK_ARG const struct mk_conv2d_s8_dsp_pair *pair) {
    __asm__("push {r4-r11, lr}\n ldmia.w r1, {r2, r3, r4, r5, r6, r7, r8}\n push {r8}\n"
            "4: ldr r9, [r2]\n ldr r10, [r3]\n add r2, r2, r7\n add r3, r3, r7\n ldr lr, [sp]\n add r9, r9, r4\n"
            "add r10, r10, r5\n lsrs r1, lr, #1\n bcc 2f\n b 3f\n"
            "1:\n" MK_CONV_QUAD "3:\n" MK_CONV_QUAD "2: subs lr, lr, #2\n bhs 1b\n"
            "subs r6, r6, #1\n bne 4b\n add sp, sp, #4\n pop {r4-r11, pc}\n");
}
#undef MK_CONV_QUAD
#else
static int32_t *mk_conv2d_s8_dsp_rows(int32_t *to, const struct mk_conv2d_s8_dsp_pair *pair) {
    const int step = pair->step / (int)sizeof(int8_t *);
    for (int i = 0; i < pair->rows; ++i)
        to = mk_widen2(to, pair->in_a[i * step] + pair->offset_a, pair->in_b[i * step] + pair->offset_b, pair->quads);
    return to;
}
#endif

/* Append the `count` bytes before `end`, 1 to 3. Up to three bytes behind them are overwritten. */
static inline int8_t *mk_conv2d_s8_dsp_rest(int8_t *to, const int8_t *end, int count, int size) {
    if (size < 4) return mk_append_s8(to, end - count, 0, count);
    const uint32_t word = mk_load4(end - 4) >> (32 - 8 * count);
    __builtin_memcpy(to, &word, 4);
    return to + count;
}

/* Where the bytes left over of two pixels are gathered, then those of a span with padding. */
struct mk_conv2d_s8_dsp_rests {
    int8_t *a, *b, *span;
};

static inline struct mk_conv2d_s8_dsp_rests mk_conv2d_s8_dsp_scratch(const struct mk_conv2d_s8_dsp *p) {
    int8_t *const rests = (int8_t *)(p->buffer + 4 * p->quads);
    const struct mk_conv2d_s8_dsp_rests scratch = {rests, rests + p->rest_bytes, rests + 2 * p->rest_bytes};
    return scratch;
}

/* Widen the inputs of two pixels of which some are padding, or whose kernel is dilated along the row. */
static void mk_conv2d_s8_dsp_border(const struct mk_conv2d_s8_dsp *p, const struct mk_conv2d_s8_dsp_at *a,
                                    const struct mk_conv2d_s8_dsp_at *b) {
    const struct mk_conv2d_s8_dsp_rests scratch = mk_conv2d_s8_dsp_scratch(p);
    const int size = p->span_cols * p->in_ch, count = size & 3;
    int8_t *rest_a = scratch.a, *rest_b = scratch.b;
    int32_t *to = p->buffer;
    for (int ky = 0; ky < p->kernel_h; ++ky)
        for (int kx = 0; kx < p->span_taps; ++kx) {
            const int y = ky * p->dilation_h, x = kx * p->dilation_w;
            const int8_t *from_a = mk_conv2d_s8_dsp_span(p, a->in[y], a->column + x, scratch.span);
            const int8_t *from_b = mk_conv2d_s8_dsp_span(p, b->in[y], b->column + x, scratch.span + size);
            to = mk_widen2(to, from_a, from_b, size >> 2);
            if (!count) continue;
            rest_a = mk_conv2d_s8_dsp_rest(rest_a, from_a + size, count, size);
            rest_b = mk_conv2d_s8_dsp_rest(rest_b, from_b + size, count, size);
        }
    if (count) mk_widen2(to, scratch.a, scratch.b, p->rest_bytes / 4 - 1);
}

/* Widen the inputs of two pixels without padding. */
static void mk_conv2d_s8_dsp_inner(const struct mk_conv2d_s8_dsp *p, const struct mk_conv2d_s8_dsp_at *a,
                                   const struct mk_conv2d_s8_dsp_at *b) {
    const int size = p->span_cols * p->in_ch, count = size & 3, step = p->dilation_h;
    const struct mk_conv2d_s8_dsp_pair pair = {
        a->in, b->in, a->column * p->in_ch, b->column * p->in_ch, p->kernel_h, step * (int)sizeof(int8_t *), size >> 2};
    int32_t *to = size >= 4 ? mk_conv2d_s8_dsp_rows(p->buffer, &pair) : p->buffer;
    if (!count) return;
    const struct mk_conv2d_s8_dsp_rests scratch = mk_conv2d_s8_dsp_scratch(p);
    const int end_a = pair.offset_a + size, end_b = pair.offset_b + size;
    int8_t *rest_a = scratch.a, *rest_b = scratch.b;
    const int8_t *const *in_a = a->in, *const *in_b = b->in;
    for (int ky = p->kernel_h; ky > 0; --ky, in_a += step, in_b += step) {
        rest_a = mk_conv2d_s8_dsp_rest(rest_a, *in_a + end_a, count, size);
        rest_b = mk_conv2d_s8_dsp_rest(rest_b, *in_b + end_b, count, size);
    }
    mk_widen2(to, scratch.a, scratch.b, p->rest_bytes / 4 - 1);
}

/* Whether no tap of a pixel is padding, nor its kernel dilated along the row. */
static inline int mk_conv2d_s8_dsp_inside(const struct mk_conv2d_s8_dsp *p, const struct mk_conv2d_s8_dsp_at *at) {
    const int last = (p->kernel_h - 1) * p->dilation_h;
    return p->span_taps == 1 && at->in[0] && at->in[last] && at->column >= 0 && at->column <= p->last_column;
}

/* The inputs of a pixel without a partner, as bytes in the order of the stream. */
static const int8_t *mk_conv2d_s8_dsp_bytes(const struct mk_conv2d_s8_dsp *p, const struct mk_conv2d_s8_dsp_at *at) {
    const int size = p->span_cols * p->in_ch, spans = p->kernel_h * p->span_taps;
    int8_t *bytes = (int8_t *)p->buffer, *to = bytes, *rest = bytes + spans * (size & ~3);
    for (int ky = 0; ky < p->kernel_h; ++ky)
        for (int kx = 0; kx < p->span_taps; ++kx) {
            const int8_t *from = mk_conv2d_s8_dsp_span(p, at->in[ky * p->dilation_h], at->column + kx * p->dilation_w,
                                                       (int8_t *)(p->buffer + 4 * p->quads));
            to = mk_append_s8(to, from, 0, size & ~3);
            rest = mk_append_s8(rest, from, size & ~3, size & 3);
        }
    mk_fill_s8(rest, 0, (int)(bytes + 4 * p->quads - rest));
    return bytes;
}

/* The next pixel in the order of the outputs, row by row. */
static inline struct mk_conv2d_s8_dsp_at mk_conv2d_s8_dsp_next(const struct mk_conv2d_s8_dsp *p,
                                                               struct mk_conv2d_s8_dsp_at *next, int *left) {
    if (*left == 0) *left = p->out_w, next->column = -p->pad_left, next->in += p->stride_h;
    const struct mk_conv2d_s8_dsp_at at = *next;
    --*left, next->column += p->stride_w;
    return at;
}

MK_KERNEL static void mk_conv2d_s8_dsp(const struct mk_conv2d_s8_dsp *p, const int8_t *const *in, int8_t *out, int rows) {
    const struct mk_mat_s8 mat = {p->stream, p->stream + p->whole_words, p->quads, p->twice, p->form, p->out_ch};
    const int direct = p->kernel_h * p->span_taps == 1 && !p->padded && p->span_cols * p->in_ch % 4 == 0;
    struct mk_conv2d_s8_dsp_at next = {in, -p->pad_left};
    int left = p->out_w;
    int8_t *to = out;
    for (int pixels = rows * p->out_w; pixels > 0; pixels -= 2) {
        const struct mk_conv2d_s8_dsp_at a = mk_conv2d_s8_dsp_next(p, &next, &left);
        if (pixels == 1) {
            to = mk_mat1(&mat, p->form, direct ? a.in[0] + a.column * p->in_ch : mk_conv2d_s8_dsp_bytes(p, &a), to);
            break;
        }
        const struct mk_conv2d_s8_dsp_at b = mk_conv2d_s8_dsp_next(p, &next, &left);
        if (direct)
            mk_widen2(p->buffer, a.in[0] + a.column * p->in_ch, b.in[0] + b.column * p->in_ch, p->quads);
        else if (mk_conv2d_s8_dsp_inside(p, &a) && mk_conv2d_s8_dsp_inside(p, &b))
            mk_conv2d_s8_dsp_inner(p, &a, &b);
        else
            mk_conv2d_s8_dsp_border(p, &a, &b);
        to = mk_mat2(&mat, p->form, p->buffer, to);
    }
    mk_clamp_row_s8(out, (int)(to - out), p->act_min, p->act_max);
}
