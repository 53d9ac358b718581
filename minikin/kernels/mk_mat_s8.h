/* Products of int8 inputs with packed int8 weights, four output channels at a time, with requantization: what the
 * convolutions and dense layers of the DSP kernels come down to.
 *
 * The weights are one stream of words, by groups of four channels 0..3:
 *
 *     256 * b1 + b0, b0, 256 * b3 + b2, b2      biases, in which the input's zero point is folded
 *     four words for each quad of inputs        halfwords (k, k + 2) of channels 0 and 1, the same of 2 and 3, then
 *                                               halfwords (k + 1, k + 3) of both; a halfword is 256 * w1 + w0
 *     shifts                                    one byte for each channel: s
 *     mult of channels 0, 1, 2, 3
 *
 * A dual multiply-add (SMLAD) with such a word sums 256 * acc1 + acc0; with its sign-extended low bytes (SXTB16) it sums
 * acc0. The difference is 256 * acc1, exactly, while acc1 lies within +-2^23: `pack` in ops/packing.py proves it.
 *
 *     y = saturate((((2 * acc * mult + 2^31) >> 32) + ((2 * offset + 1) << s) >> s) >> 1)
 *
 * is mk_requantize with shift -(s + 1), plus the offset. Halves of negative values go up here and away from zero there;
 * where the output is clamped at its offset (ReLU) that makes no difference, elsewhere `mk_mat*_signed` corrects it.
 *
 * `mk_mat*_fitted` takes, instead of shifts and mult, two words for each channel: addend and mult. They are chosen so that
 *
 *     y = saturate((acc * mult >> 32) + addend >> 3)      (odd channels: (256 * acc * mult >> 32) + addend >> 11)
 *
 * is the same for every sum that the channel can reach.
 */
enum { MK_MAT_RELU, MK_MAT_SIGNED, MK_MAT_FITTED };

struct mk_mat_s8 {
    const int32_t *stream, *end; /* the groups to compute */
    int32_t quads;               /* inputs / 4 */
    int32_t twice;               /* 2 * offset + 1 */
    int32_t form, out_ch;
};

#if MK_DSP

/* r0 inputs, r1 stream; r4-r7 sums of pixel 0: 256 * acc1 + acc0, acc0, 256 * acc3 + acc2, acc2; r8-r11 of pixel 1. */
#define MK_MAT2_PAIR                                                                    \
    "ldmia.w r0!, {r2, r3}\n ldmia.w r1!, {r12, lr}\n"                                  \
    "smlad r4, r2, r12, r4\n smlad r8, r3, r12, r8\n sxtb16 r12, r12\n"               \
    "smlad r6, r2, lr, r6\n smlad r10, r3, lr, r10\n sxtb16 lr, lr\n"                 \
    "smlad r5, r2, r12, r5\n smlad r9, r3, r12, r9\n"                                   \
    "smlad r7, r2, lr, r7\n smlad r11, r3, lr, r11\n"
#define MK_MAT2_QUAD MK_MAT2_PAIR MK_MAT2_PAIR
#define MK_MAT2_QUAD_BYTES "96"

/* One quad of one pixel: r0 int8 inputs; r4-r7 sums as above. */
#define MK_MAT1_QUAD                                                                    \
    "ldr r3, [r0], #4\n ldmia.w r1!, {r8, r9, r10, r11}\n"                              \
    "sxtb16 r2, r3\n sxtb16 r3, r3, ror #8\n"                                       \
    "smlad r4, r2, r8, r4\n sxtb16 r8, r8\n smlad r6, r2, r9, r6\n sxtb16 r9, r9\n" \
    "smlad r4, r3, r10, r4\n sxtb16 r10, r10\n smlad r6, r3, r11, r6\n"               \
    "sxtb16 r11, r11\n smlad r5, r2, r8, r5\n smlad r7, r2, r9, r7\n"                 \
    "smlad r5, r3, r10, r5\n smlad r7, r3, r11, r7\n"
#define MK_MAT1_QUAD_BYTES "64"

/* Twice a sum in a register to its output; lr mult, r2 the rounding and the offset, r12 the shift in its low byte. */
#define MK_OUT_RELU(x) "smmlar " x ", " x ", lr, r2\n asr.w " x ", " x ", r12\n ssat " x ", #8, " x ", asr #1\n"
#define MK_OUT_SIGNED(x)                                                  \
    "smmulr " x ", " x ", lr\n add.w " x ", " x ", " x ", asr #31\n"       \
    "add.w " x ", " x ", r2\n asr.w " x ", " x ", r12\n ssat " x ", #8, " x ", asr #1\n"

#define MK_MAT2_EVEN(OUT, a, b) \
    "ldr lr, [r1], #4\n lsl.w r2, r3, r12\n lsl.w " a ", " a ", #1\n lsl.w " b ", " b ", #1\n" OUT(a) OUT(b)
#define MK_MAT2_ODD(OUT, a, b) \
    "ldr lr, [r1], #4\n lsl.w r2, r3, r12\n asr.w " a ", " a ", #7\n asr.w " b ", " b ", #7\n" OUT(a) OUT(b)
#define MK_MAT1_EVEN(OUT, a) "ldr lr, [r1], #4\n lsl.w r2, r3, r12\n lsl.w " a ", " a ", #1\n" OUT(a)
#define MK_MAT1_ODD(OUT, a) "ldr lr, [r1], #4\n lsl.w r2, r3, r12\n asr.w " a ", " a ", #7\n" OUT(a)
#define MK_MAT_NEXT "lsr.w r12, r12, #8\n"

/* Frame: 0 first quad's address, 4 inputs, 8 their end, 12 end of the stream, 16 twice, 20 out0, 24 out1. */
#define MK_MAT_ENTER(INPUT_BYTES, QUAD_BYTES)                                                        \
    "push {r4-r11, lr}\n sub sp, sp, #28\n str r1, [sp, #4]\n strd r2, r3, [sp, #20]\n"              \
    "ldmia r0, {r4, r5, r6, r7}\n strd r5, r7, [sp, #12]\n"                                          \
    "add r1, r1, r6, lsl #" INPUT_BYTES "\n str r1, [sp, #8]\n"                                      \
    "rsb r6, r6, #0\n and r6, r6, #3\n mov r7, #" QUAD_BYTES "\n adr.w r8, 2f\n mla r8, r6, r7, r8\n" \
    "orr r8, r8, #1\n str r8, [sp]\n mov r1, r4\n"
#define MK_MAT_NEXT_GROUP "ldr r2, [sp, #12]\n cmp r1, r2\n bne.w 1b\n add sp, sp, #28\n pop {r4-r11, pc}\n"

#define MK_MAT2_BODY(OUTS)                                                                            \
    MK_MAT_ENTER("4", MK_MAT2_QUAD_BYTES)                                                             \
    "1: ldr r0, [sp, #4]\n ldmia.w r1, {r4-r7}\n ldmia.w r1!, {r8-r11}\n ldr pc, [sp]\n"              \
    ".balign 4\n 2:\n" MK_MAT2_QUAD MK_MAT2_QUAD MK_MAT2_QUAD MK_MAT2_QUAD                            \
    "ldr r2, [sp, #8]\n cmp r0, r2\n bne.w 2b\n"                                                      \
    "sub.w r4, r4, r5\n sub.w r8, r8, r9\n sub.w r6, r6, r7\n sub.w r10, r10, r11\n" OUTS              \
    "ldrd r2, r3, [sp, #20]\n strb r4, [r2, #1]\n strb r7, [r2, #2]\n strb r6, [r2, #3]\n"            \
    "strb r5, [r2], #4\n strb.w r8, [r3, #1]\n strb.w r11, [r3, #2]\n strb.w r10, [r3, #3]\n"         \
    "strb r9, [r3], #4\n strd r2, r3, [sp, #20]\n" MK_MAT_NEXT_GROUP

/* A sum in a register to its output; lr mult, r2 addend. */
#define MK_OUT_FITTED(x, SHIFT) "smmla " x ", " x ", lr, r2\n ssat " x ", #8, " x ", asr #" SHIFT "\n"
#define MK_MAT2_FITTED(SHIFT, a, b) "ldmia.w r1!, {r2, lr}\n" MK_OUT_FITTED(a, SHIFT) MK_OUT_FITTED(b, SHIFT)
#define MK_MAT1_FITTED(SHIFT, a) "ldmia.w r1!, {r2, lr}\n" MK_OUT_FITTED(a, SHIFT)

#define MK_MAT1_BODY(OUTS)                                                                            \
    MK_MAT_ENTER("2", MK_MAT1_QUAD_BYTES)                                                             \
    "1: ldrd r0, lr, [sp, #4]\n ldmia.w r1!, {r4-r7}\n ldr pc, [sp]\n"                                \
    ".balign 4\n 2:\n" MK_MAT1_QUAD MK_MAT1_QUAD MK_MAT1_QUAD MK_MAT1_QUAD                            \
    "cmp r0, lr\n bne.w 2b\n"                                                                         \
    "ldrd r3, r0, [sp, #16]\n sub.w r4, r4, r5\n sub.w r6, r6, r7\n" OUTS                               \
    "strb r4, [r0, #1]\n strb r7, [r0, #2]\n strb r6, [r0, #3]\n strb r5, [r0], #4\n str r0, [sp, #20]\n" \
    MK_MAT_NEXT_GROUP

#define MK_MAT2_OUTS(OUT)                                                                             \
    "ldr r12, [r1], #4\n ldr r3, [sp, #16]\n"                                                         \
    MK_MAT2_EVEN(OUT, "r5", "r9") MK_MAT_NEXT MK_MAT2_ODD(OUT, "r4", "r8") MK_MAT_NEXT                \
    MK_MAT2_EVEN(OUT, "r7", "r11") MK_MAT_NEXT MK_MAT2_ODD(OUT, "r6", "r10")
#define MK_MAT1_OUTS(OUT)                                                                             \
    "ldr r12, [r1], #4\n"                                                                             \
    MK_MAT1_EVEN(OUT, "r5") MK_MAT_NEXT MK_MAT1_ODD(OUT, "r4") MK_MAT_NEXT                            \
    MK_MAT1_EVEN(OUT, "r7") MK_MAT_NEXT MK_MAT1_ODD(OUT, "r6")

MK_ASM void mk_mat2_fitted(MK_ARG const struct mk_mat_s8 *m, MK_ARG const int32_t *x, MK_ARG int8_t *out0,
                           MK_ARG int8_t *out1) {
    __asm__(MK_MAT2_BODY(MK_MAT2_FITTED("3", "r5", "r9") MK_MAT2_FITTED("11", "r4", "r8")
                             MK_MAT2_FITTED("3", "r7", "r11") MK_MAT2_FITTED("11", "r6", "r10")));
}

MK_ASM void mk_mat1_fitted(MK_ARG const struct mk_mat_s8 *m, MK_ARG const int8_t *x, MK_ARG int8_t *out) {
    __asm__(MK_MAT1_BODY(MK_MAT1_FITTED("3", "r5") MK_MAT1_FITTED("11", "r4") MK_MAT1_FITTED("3", "r7")
                             MK_MAT1_FITTED("11", "r6")));
}

MK_ASM void mk_mat2_relu(MK_ARG const struct mk_mat_s8 *m, MK_ARG const int32_t *x, MK_ARG int8_t *out0,
                         MK_ARG int8_t *out1) {
    __asm__(MK_MAT2_BODY(MK_MAT2_OUTS(MK_OUT_RELU)));
}

MK_ASM void mk_mat2_signed(MK_ARG const struct mk_mat_s8 *m, MK_ARG const int32_t *x, MK_ARG int8_t *out0,
                           MK_ARG int8_t *out1) {
    __asm__(MK_MAT2_BODY(MK_MAT2_OUTS(MK_OUT_SIGNED)));
}

MK_ASM void mk_mat1_relu(MK_ARG const struct mk_mat_s8 *m, MK_ARG const int8_t *x, MK_ARG int8_t *out) {
    __asm__(MK_MAT1_BODY(MK_MAT1_OUTS(MK_OUT_RELU)));
}

MK_ASM void mk_mat1_signed(MK_ARG const struct mk_mat_s8 *m, MK_ARG const int8_t *x, MK_ARG int8_t *out) {
    __asm__(MK_MAT1_BODY(MK_MAT1_OUTS(MK_OUT_SIGNED)));
}

#else

/* The outputs of one group from its sums; the stream stands behind the weights. Gives the place behind the group. */
static inline const int32_t *mk_mat_out(const struct mk_mat_s8 *m, const int32_t *w, const uint32_t *sums, int8_t *out) {
    const uint32_t shifts = m->form == MK_MAT_FITTED ? 0 : (uint32_t)*w++;
    for (int i = 0; i < 4; ++i) {
        const int shift = shifts >> 8 * i & 255;
        const int32_t sum = (int32_t)(i & 1 ? sums[i - 1] - sums[i] : sums[i + 1]);
        if (m->form == MK_MAT_FITTED) {
            const int32_t high = (int32_t)((int64_t)sum * w[1] >> 32) + w[0];
            out[i] = (int8_t)mk_clamp(high >> (i & 1 ? 11 : 3), -128, 127);
            w += 2;
            continue;
        }
        int32_t high = mk_smmulr(i & 1 ? sum >> 7 : sum * 2, *w++);
        if (m->form == MK_MAT_SIGNED) high += high >> 31;
        out[i] = (int8_t)mk_clamp((high + m->twice * (1 << shift)) >> shift >> 1, -128, 127);
    }
    return w;
}

/* All groups of one pixel; its words of inputs lie `step` apart. */
static inline void mk_mat_words(const struct mk_mat_s8 *m, const int32_t *x, int step, int8_t *out) {
    for (const int32_t *w = m->stream; w != m->end; out += 4) {
        uint32_t sums[4];
        for (int i = 0; i < 4; ++i) sums[i] = (uint32_t)*w++;
        for (int k = 0; k < 2 * m->quads; ++k)
            for (int i = 0; i < 4; i += 2, ++w) {
                const uint32_t pair = (uint32_t)x[k * step], weights = (uint32_t)*w;
                sums[i] = mk_smlad(pair, weights, sums[i]);
                sums[i + 1] = mk_smlad(pair, mk_sxtb16(weights), sums[i + 1]);
            }
        w = mk_mat_out(m, w, sums, out);
    }
}

static inline void mk_mat_bytes(const struct mk_mat_s8 *m, const int8_t *x, int8_t *out) {
    for (const int32_t *w = m->stream; w != m->end; out += 4) {
        uint32_t sums[4];
        for (int i = 0; i < 4; ++i) sums[i] = (uint32_t)*w++;
        for (int k = 0; k < 4 * m->quads; k += 4)
            for (int i = 0; i < 8; i += 2, ++w) {
                const uint32_t word = mk_load4(x + k), weights = (uint32_t)*w;
                const uint32_t pair = i < 4 ? mk_sxtb16(word) : mk_sxtb16_ror8(word);
                sums[i & 2] = mk_smlad(pair, weights, sums[i & 2]);
                sums[(i & 2) + 1] = mk_smlad(pair, mk_sxtb16(weights), sums[(i & 2) + 1]);
            }
        w = mk_mat_out(m, w, sums, out);
    }
}
#endif

/* `form` is that of m, apart from it so that a compiler sees where it is a constant. */
static inline void mk_mat2_groups(const struct mk_mat_s8 *m, MK_ARG int form, const int32_t *x, int8_t *out0, int8_t *out1) {
#if !MK_DSP
    mk_mat_words(m, x, 2, out0);
    mk_mat_words(m, x + 1, 2, out1);
#else
#ifdef MK_MAT_FAST
    if (form == MK_MAT_FITTED) {
        mk_mat2_fitted(m, x, out0, out1);
        return;
    }
#endif
    (form == MK_MAT_RELU ? mk_mat2_relu : mk_mat2_signed)(m, x, out0, out1);
#endif
}

static inline void mk_mat1_groups(const struct mk_mat_s8 *m, MK_ARG int form, const int8_t *x, int8_t *out) {
#if !MK_DSP
    mk_mat_bytes(m, x, out);
#else
#ifdef MK_MAT_FAST
    if (form == MK_MAT_FITTED) {
        mk_mat1_fitted(m, x, out);
        return;
    }
#endif
    (form == MK_MAT_RELU ? mk_mat1_relu : mk_mat1_signed)(m, x, out);
#endif
}

/* The last group of a layer whose channels are no multiple of four: its outputs take a detour. */
static inline struct mk_mat_s8 mk_mat_last(const struct mk_mat_s8 *m) {
    const int words = 4 * m->quads + (m->form == MK_MAT_FITTED ? 12 : 9);
    const struct mk_mat_s8 last = {m->end, m->end + words, m->quads, m->twice, m->form, m->out_ch};
    return last;
}

/* All outputs of two pixels, whose words lie side by side at x; gives the place behind them. */
__attribute__((unused)) static int8_t *mk_mat2(const struct mk_mat_s8 *m, int form, const int32_t *x, int8_t *out) {
    if (m->stream != m->end) mk_mat2_groups(m, form, x, out, out + m->out_ch);
    const int whole = m->out_ch & ~3, rest = m->out_ch & 3;
    if (rest) {
        const struct mk_mat_s8 last = mk_mat_last(m);
        int8_t ends[8];
        mk_mat2_groups(&last, form, x, ends, ends + 4);
        mk_append_s8(out + whole, ends, 0, rest);
        mk_append_s8(out + m->out_ch + whole, ends, 4, rest);
    }
    return out + 2 * m->out_ch;
}

/* All outputs of one pixel, whose inputs are bytes. */
__attribute__((unused)) static int8_t *mk_mat1(const struct mk_mat_s8 *m, int form, const int8_t *x, int8_t *out) {
    if (m->stream != m->end) mk_mat1_groups(m, form, x, out);
    const int whole = m->out_ch & ~3, rest = m->out_ch & 3;
    if (rest) {
        const struct mk_mat_s8 last = mk_mat_last(m);
        int8_t ends[4];
        mk_mat1_groups(&last, form, x, ends);
        mk_append_s8(out + whole, ends, 0, rest);
    }
    return out + m->out_ch;
}
