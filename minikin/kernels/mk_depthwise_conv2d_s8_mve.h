/* The depthwise_conv2d of mk_depthwise_conv2d_s8.h on Helium, for kernels of up to 4x4 taps, one output channel for each input channel.
 *
 * Four input rows are interleaved in scratch memory: at each column, for each of `block` channels, a word of four bytes. A window
 * of four columns is then four words, gathered by one load, and one VMLADAVA gives an output's sum. The stream is that of
 * mk_mve.h with 16 bytes of weights for each channel, by column and row; taps that a kernel does not have are zero.
 */
struct mk_depthwise_conv2d_s8_mve {
    int32_t in_w, channels, out_w, stride_h, stride_w, pad_left, dilation_w, dilation_h, kernel_h, kernel_w;
    int32_t columns; /* that a row of outputs reads, padding included */
    int32_t block;   /* channels at a time: a multiple of 16 */
    int32_t zero, offset, is_signed, act_min, act_max;
    const int32_t *stream;
    int32_t *buffer; /* 16 bytes of padding, then the interleaved rows */
};

/* Four rows of up to 16 channels, a step from each column to the next: one of padding has no step. */
struct mk_depthwise_conv2d_s8_mve_rows {
    const int8_t *row[4];
    int32_t step[4];
    int32_t lanes;
};

/* Pixels of one block of channels. */
struct mk_depthwise_conv2d_s8_mve_block {
    const int32_t *stream;
    int32_t channels, offset;
    int32_t from_step, out_step; /* bytes from a pixel to the next */
    int32_t column[4];           /* bytes from a pixel to its four columns; any where there is no tap */
};

#if MK_MVE
/* Interleave `count` columns, at least one. */
MK_ASM void mk_depthwise_conv2d_s8_mve_weave(MK_ARG const struct mk_depthwise_conv2d_s8_mve_rows *rows, MK_ARG int8_t *to,
                                             MK_ARG int to_step, MK_ARG int count) {
    __asm__("push {r4-r11, lr}\n ldr.w r12, [r0, #32]\n vctp.8 r12\n ldmia.w r0, {r4-r11}\n dls lr, r3\n"
            "1: vpstttt\n vldrbt.u8 q0, [r4]\n vldrbt.u8 q1, [r5]\n vldrbt.u8 q2, [r6]\n vldrbt.u8 q3, [r7]\n"
            "add r4, r8\n add r5, r9\n add r6, r10\n add r7, r11\n vst40.8 {q0, q1, q2, q3}, [r1]\n"
            "vst41.8 {q0, q1, q2, q3}, [r1]\n vst42.8 {q0, q1, q2, q3}, [r1]\n vst43.8 {q0, q1, q2, q3}, [r1]\n"
            "add r1, r2\n le lr, 1b\n pop {r4-r11, pc}\n");
}

/* Frame: pixel, stream, twice channels, out (as ldm takes them), pairs, from_step, out_step, columns. */
#define MK_DEPTHWISE_MVE_TAPS(a, b)                                                                  \
    "vldrb.u8 q2, [r5], #16\n vldrw.u32 q0, [q6, #4]!\n vldrw.u32 q1, [q7, #4]!\n vmladava.s8 " a \
    ", q0, q2\n vmladava.s8 " b ", q1, q2\n"
#define MK_DEPTHWISE_MVE(fix)                                                                                      \
    "push {r4-r11, lr}\n vpush {d8-d15}\n ldmia.w r0!, {r4-r8}\n mov.w r9, r3\n mov.w r10, r2\n sub.w r11, r1, #4\n" \
    "mov.w r3, r8\n mov.w r12, r0\n vdup.16 q4, r6\n lsl.w r5, r5, #1\n" MK_MVE_PLACES                             \
    "push {r12}\n push {r8}\n push {r7}\n push {r9}\n push {r10}\n push {r5}\n push {r4}\n push {r11}\n"           \
    "1: ldr.w r0, [sp, #28]\n ldr.w r3, [sp, #20]\n ldmia.w sp, {r1, r5, r9, r11}\n vldrw.u32 q6, [r0]\n"          \
    "vadd.i32 q6, q6, r1\n vadd.i32 q7, q6, r3\n"                                                                  \
    "2:\n" MK_MVE_BIAS MK_DEPTHWISE_MVE_TAPS("r0", "r8") MK_DEPTHWISE_MVE_TAPS("r2", "r10")                        \
        MK_DEPTHWISE_MVE_TAPS("r4", "r12") MK_DEPTHWISE_MVE_TAPS("r6", "lr") MK_MVE_OUTPUTS(fix) "bhi.w 2b\n"      \
    "ldrd r0, r1, [sp, #12]\n ldrd r2, r3, [sp, #20]\n ldr.w r4, [sp]\n add.w r0, r0, r3, lsl #1\n"                \
    "add.w r4, r4, r2, lsl #1\n str.w r4, [sp]\n subs.w r1, r1, #1\n strd r0, r1, [sp, #12]\n bne.w 1b\n"          \
    "add sp, sp, #32\n vpop {d8-d15}\n pop {r4-r11, pc}\n"

/* Pairs of pixels, at least one. */
MK_ASM void mk_depthwise_conv2d_s8_mve_relu(MK_ARG const struct mk_depthwise_conv2d_s8_mve_block *block,
                                            MK_ARG const int8_t *from, MK_ARG int8_t *out, MK_ARG int pairs) {
    __asm__(MK_DEPTHWISE_MVE(MK_MVE_RELU));
}

MK_ASM void mk_depthwise_conv2d_s8_mve_signed(MK_ARG const struct mk_depthwise_conv2d_s8_mve_block *block,
                                              MK_ARG const int8_t *from, MK_ARG int8_t *out, MK_ARG int pairs) {
    __asm__(MK_DEPTHWISE_MVE(MK_MVE_SIGNED));
}

static inline void mk_depthwise_conv2d_s8_mve_pairs(const struct mk_depthwise_conv2d_s8_mve_block *block,
                                                    const int8_t *from, int8_t *out, int pairs, int is_signed) {
    if (is_signed)
        mk_depthwise_conv2d_s8_mve_signed(block, from, out, pairs);
    else
        mk_depthwise_conv2d_s8_mve_relu(block, from, out, pairs);
}
#else
static inline void mk_depthwise_conv2d_s8_mve_weave(const struct mk_depthwise_conv2d_s8_mve_rows *rows, int8_t *to,
                                                    int to_step, int count) {
    for (int x = 0; x < count; ++x, to += to_step)
        for (int c = 0; c < 16; ++c)
            for (int i = 0; i < 4; ++i) to[4 * c + i] = c < rows->lanes ? rows->row[i][x * rows->step[i] + c] : 0;
}

static inline void mk_depthwise_conv2d_s8_mve_pairs(const struct mk_depthwise_conv2d_s8_mve_block *block,
                                                    const int8_t *from, int8_t *out, int pairs, int is_signed) {
    for (int x = 0; x < 2 * pairs; ++x, from += block->from_step, out += block->out_step) {
        const int8_t *at = (const int8_t *)block->stream;
        for (int o = 0; o < block->channels; o += 4) {
            int32_t sums[4];
            __builtin_memcpy(sums, at, 16), at += 16;
            for (int c = 0; c < 4; ++c)
                for (int i = 0; i < 16; ++i) sums[c] += from[block->column[i >> 2] + 4 * (o + c) + (i & 3)] * *at++;
            mk_mve_outputs(sums, at, mk_min(4, block->channels - o), block->offset, is_signed, out + o);
            at += 20;
        }
    }
}
#endif

/* Interleave the columns of `count` channels from `first` on. */
static void mk_depthwise_conv2d_s8_mve_fill(const struct mk_depthwise_conv2d_s8_mve *p, const int8_t *const *in, int first,
                                            int count) {
    const int8_t *const padding = (const int8_t *)p->buffer;
    const int before = mk_min(p->pad_left, p->columns), inside = mk_min(p->in_w, p->columns - before);
    const int behind = p->columns - before - inside, step = 4 * p->block;
    for (int c = 0; c < count; c += 16) {
        struct mk_depthwise_conv2d_s8_mve_rows none = {{padding, padding, padding, padding}, {0, 0, 0, 0}, 16};
        struct mk_depthwise_conv2d_s8_mve_rows some = none;
        int8_t *to = (int8_t *)p->buffer + 16 + 4 * c;
        some.lanes = mk_min(16, count - c);
        for (int ky = 0; ky < p->kernel_h; ++ky) {
            const int8_t *row = in[ky * p->dilation_h];
            if (row) some.row[ky] = row + first + c, some.step[ky] = p->channels;
        }
        if (before) mk_depthwise_conv2d_s8_mve_weave(&none, to, step, before);
        if (inside) mk_depthwise_conv2d_s8_mve_weave(&some, to + before * step, step, inside);
        if (behind) mk_depthwise_conv2d_s8_mve_weave(&none, to + (before + inside) * step, step, behind);
    }
}

MK_KERNEL static void mk_depthwise_conv2d_s8_mve(const struct mk_depthwise_conv2d_s8_mve *p, const int8_t *const *in,
                                                 int8_t *out, int rows) {
    const int width = 4 * p->block, pairs = p->out_w >> 1;
    int8_t *to = out;
    mk_fill_s8((int8_t *)p->buffer, (int8_t)p->zero, 16);
    for (int r = 0; r < rows; ++r, in += p->stride_h, to += p->out_w * p->channels) {
        struct mk_depthwise_conv2d_s8_mve_block block = {
            p->stream, 0, p->offset, p->stride_w * width, p->channels, {0, 0, 0, 0}};
        for (int kx = 1; kx < p->kernel_w; ++kx) block.column[kx] = kx * p->dilation_w * width;
        for (int first = 0; first < p->channels; first += p->block, block.stream += 25 * p->block / 4) {
            const int8_t *from = (const int8_t *)(p->buffer + 4);
            block.channels = mk_min(p->block, p->channels - first);
            mk_depthwise_conv2d_s8_mve_fill(p, in, first, block.channels);
            if (pairs) mk_depthwise_conv2d_s8_mve_pairs(&block, from, to + first, pairs, p->is_signed);
            if (p->out_w & 1) {
                struct mk_depthwise_conv2d_s8_mve_block last = block; /* the same pixel twice */
                last.from_step = last.out_step = 0;
                mk_depthwise_conv2d_s8_mve_pairs(&last, from + 2 * pairs * block.from_step,
                                                 to + first + 2 * pairs * block.out_step, 1, p->is_signed);
            }
        }
    }
    mk_clamp_row_s8(out, (int)(to - out), p->act_min, p->act_max);
}
