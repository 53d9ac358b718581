/* The conv2d of mk_conv2d_s8.h with groups on DSP instructions: of several pairs of pixels, each group's inputs are gathered and
 * widened, then multiplied by mk_mat_s8.h.
 *
 * A tap of a pixel is `group_in` adjacent bytes, taken as quads; where they are no multiple of four, the last quad overlaps the
 * one before, and what it repeats has weights of zero. Where the taps of both pixels lie is found once for all groups.
 */
struct mk_conv2d_s8_groups_dsp {
    int32_t in_w, in_ch, out_w, stride_h, stride_w, pad_left, dilation_h, dilation_w, kernel_h, kernel_w;
    int32_t group_in, group_out; /* channels of a group, four at least */
    int32_t zero, padded;        /* what stands for an input outside the frame; whether any does */
    int32_t pairs;               /* that are widened together */
    int32_t out_ch, quads, whole_words, scale, offset, form, act_min, act_max;
    int32_t blank_words, group_words; /* of a pixel of padding, behind the widened pairs; of a group's stream */
    const int32_t *stream;
    int32_t *buffer; /* scratch: widened pairs, a pixel of padding, where the taps of the pairs lie */
};

/* A tap of two pixels. */
struct mk_conv_tap {
    const int8_t *a, *b;
};

/* Where a walk along the pixels is. */
struct mk_conv_walk {
    const int8_t *const *in;
    int column, left; /* of the window's first tap; pixels left of the row */
};

static void mk_conv_step(const struct mk_conv2d_s8_groups_dsp *p, struct mk_conv_walk *walk) {
    walk->column += p->stride_w;
    if (--walk->left == 0) walk->in += p->stride_h, walk->column = -p->pad_left, walk->left = p->out_w;
}

static const int8_t *mk_conv_tap(const struct mk_conv2d_s8_groups_dsp *p, const struct mk_conv_walk *at, int ky, int kx) {
    const int8_t *const row = at->in[ky * p->dilation_h];
    const int column = at->column + kx * p->dilation_w;
    return row && column >= 0 && column < p->in_w ? row + column * p->in_ch : (const int8_t *)(p->buffer + 4 * p->quads * p->pairs);
}

#if MK_DSP
/* r4 quads of a tap before the last one, r5 bytes back to that. */
#define MK_CONV_TAP_QUAD                                                                                           \
    "ldr r9, [r6], #4\n ldr r10, [r7], #4\n sxtb16 r11, r9, ror #8\n sxtb16 r12, r10, ror #8\n"                     \
    "sxtb16 r9, r9\n sxtb16 r10, r10\n stmia.w r0!, {r9, r10, r11, r12}\n"
MK_ASM void mk_conv_widen(MK_ARG int32_t *to, MK_ARG const struct mk_conv_tap *taps, MK_ARG const struct mk_conv_tap *end,
                          MK_ARG int channel, MK_ARG int size) {
    __asm__("push {r4-r12, lr}\n ldr r5, [sp, #40]\n add r4, r5, #3\n asr r4, r4, #2\n sub r5, r5, r4, lsl #2\n subs r4, r4, #1\n"
            "1: ldrd r6, r7, [r1], #8\n add r6, r6, r3\n add r7, r7, r3\n movs.w r8, r4\n beq 3f\n"
            "2:\n" MK_CONV_TAP_QUAD "subs.w r8, r8, #1\n bne 2b\n"
            "3: add r6, r6, r5\n add r7, r7, r5\n" MK_CONV_TAP_QUAD "cmp r1, r2\n bne 1b\n pop {r4-r12, pc}\n");
}
#endif

/* The quads of one tap, at `at`. */
static inline const int8_t *mk_conv_quad(const struct mk_conv2d_s8_groups_dsp *p, const int8_t *tap, int at) {
    return tap + mk_min(at, p->group_in - 4);
}

MK_KERNEL static void mk_conv2d_s8_groups_dsp(const struct mk_conv2d_s8_groups_dsp *p, const int8_t *const *in, int8_t *out,
                                              int rows) {
    const int last_four = p->group_out - 4;
    int32_t *const blank = p->buffer + 4 * p->quads * p->pairs;
    struct mk_conv_walk walk = {in, -p->pad_left, p->out_w};
    if (p->padded) mk_fill_s8((int8_t *)blank, (int8_t)p->zero, p->in_ch);
    int8_t *to = out;
    for (int pixels = rows * p->out_w, pairs; pixels > 1; pixels -= 2 * pairs, to += 2 * pairs * p->out_ch) {
        pairs = mk_min(pixels >> 1, p->pairs);
#if MK_DSP
        struct mk_conv_tap *const taps = (struct mk_conv_tap *)(blank + p->blank_words), *end = taps;
#endif
        const struct mk_conv_walk begin = walk;
        for (int i = 0; i < pairs; ++i) {
            const struct mk_conv_walk a = walk;
            mk_conv_step(p, &walk);
#if MK_DSP
            for (int ky = 0; ky < p->kernel_h; ++ky)
                for (int kx = 0; kx < p->kernel_w; ++kx, ++end)
                    end->a = mk_conv_tap(p, &a, ky, kx), end->b = mk_conv_tap(p, &walk, ky, kx);
#else
            (void)a;
#endif
            mk_conv_step(p, &walk);
        }
        const int32_t *stream = p->stream;
        for (int first = 0, channel = 0; first < p->out_ch; first += p->group_out, channel += p->group_in, stream += p->group_words) {
#if MK_DSP
            (void)begin;
            mk_conv_widen(p->buffer, taps, end, channel, p->group_in);
#else
            struct mk_conv_walk at = begin;
            int32_t *x = p->buffer;
            for (int i = 0; i < pairs; ++i) {
                const struct mk_conv_walk a = at;
                mk_conv_step(p, &at);
                for (int ky = 0; ky < p->kernel_h; ++ky)
                    for (int kx = 0; kx < p->kernel_w; ++kx)
                        for (int k = 0; k < p->group_in; k += 4)
                            x = mk_widen2(x, mk_conv_quad(p, mk_conv_tap(p, &a, ky, kx), k) + channel,
                                          mk_conv_quad(p, mk_conv_tap(p, &at, ky, kx), k) + channel, 1);
                mk_conv_step(p, &at);
            }
#endif
            const struct mk_mat_s8 mat =
                mk_mat(stream, stream + p->whole_words, p->quads, p->scale, p->offset, p->out_ch, p->form);
            mk_mat2_groups(&mat, p->buffer, to + first, pairs);
            if (p->group_out & 3) {
                const struct mk_mat_s8 last =
                    mk_mat(mat.end, stream + p->group_words, p->quads, p->scale, p->offset, p->out_ch, p->form);
                mk_mat2_groups(&last, p->buffer, to + first + last_four, pairs);
            }
        }
    }
    if (rows * p->out_w & 1) {
        const int32_t *stream = p->stream;
        for (int first = 0, channel = 0; first < p->out_ch; first += p->group_out, channel += p->group_in, stream += p->group_words) {
            int32_t *const single = p->buffer + 2 * (p->quads & 1), *x = single;
            for (int ky = 0; ky < p->kernel_h; ++ky)
                for (int kx = 0; kx < p->kernel_w; ++kx) {
                    const int8_t *const tap = mk_conv_tap(p, &walk, ky, kx) + channel;
                    x = mk_widen1(x, tap, p->group_in >> 2);
                    if (p->group_in & 3) x = mk_widen1(x, tap + p->group_in - 4, 1);
                }
            const struct mk_mat_s8 mat =
                mk_mat(stream, stream + p->whole_words, p->quads, p->scale, p->offset, p->out_ch, p->form);
            mk_mat1_groups(&mat, single, 0, to + first);
            if (p->group_out & 3) {
                const struct mk_mat_s8 last =
                    mk_mat(mat.end, stream + p->group_words, p->quads, p->scale, p->offset, p->out_ch, p->form);
                mk_mat1_groups(&last, single, 0, to + first + last_four);
            }
        }
        to += p->out_ch;
    }
    mk_clamp_row_s8(out, (int)(to - out), p->act_min, p->act_max);
}
