/* Products of int8 inputs with packed int8 weights, four output channels at a time, with requantization: what the
 * convolutions and dense layers of the DSP kernels come down to.
 *
 * The weights are one stream of words, by groups of four channels 0..3:
 *
 *     256 * b1 + b0, b0, 256 * b3 + b2, b2      biases, in which the input's zero point is folded
 *     four words for each quad of inputs        halfwords (k, k + 2) of channels 0 and 1, the same of 2 and 3, then
 *                                               halfwords (k + 1, k + 3) of both; a halfword is 256 * w1 + w0
 *     mult of channels 0, 1, 2, 3
 *     addend                                    or one byte for each channel: s, 1 or more
 *
 * A dual multiply-add (SMLAD) with such a word sums 256 * acc1 + acc0; with its sign-extended low bytes (SXTB16) it sums
 * acc0. The difference is 256 * acc1, exactly, while acc1 lies within +-2^23: `pack_stream` in ops/packing.py proves it.
 * Two forms of outputs follow. The fitted one has the same steps as mk_requantize, plus the offset, for every sum that the
 * channel can reach: see ops/fitting.py. Odd channels have the fraction of a bias as well, 256 * b1 being any number.
 *
 *     y = saturate((acc * mult >> 32) + addend >> 3)      (odd channels: (256 * acc * mult >> 32) + addend >> 11)
 *
 * The exact form works for any output. Its mult is twice mk_requantize's, as 32 bits without sign. `scale` is 2^31 and a
 * little more, so that no half is left to be rounded away from zero, and no other output changes.
 *
 *     y = saturate((high * (scale >> s) + 2^31 >> 32) + offset),   high = acc * mult + 2^31 >> 32
 */
enum { MK_MAT_FITTED, MK_MAT_EXACT };

struct mk_mat_s8 {
    const int32_t *stream, *end; /* the groups to compute */
    int32_t quads;               /* inputs / 4 */
    int32_t scale, offset;       /* of the exact form */
    int32_t beside, step;        /* from a pair's first pixel to its second, and to the next pair */
    int32_t out_ch, form;
};

/* Of pixels that lie one behind the other. */
__attribute__((always_inline)) static inline struct mk_mat_s8 mk_mat(const int32_t *stream, const int32_t *end, int quads,
                                                                     int scale, int offset, int out_ch, int form) {
    const struct mk_mat_s8 mat = {stream, end, quads, scale, offset, out_ch, 2 * out_ch, out_ch, form};
    return mat;
}

/* Words of a group besides its weights. */
enum { MK_MAT_EXTRA = 9 };

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

/* One quad of one pixel: inputs in X02 and X13, r1 stream; r4-r7 sums as above. */
#define MK_MAT1_QUAD(X02, X13)                                                                      \
    "ldmia.w r1!, {r8, r9, r10, r11}\n"                                                             \
    "smlad r4, " X02 ", r8, r4\n sxtb16 r8, r8\n smlad r6, " X02 ", r9, r6\n sxtb16 r9, r9\n"       \
    "smlad r4, " X13 ", r10, r4\n sxtb16 r10, r10\n smlad r6, " X13 ", r11, r6\n sxtb16 r11, r11\n" \
    "smlad r5, " X02 ", r8, r5\n smlad r7, " X02 ", r9, r7\n"                                       \
    "smlad r5, " X13 ", r10, r5\n smlad r7, " X13 ", r11, r7\n"
#define MK_MAT1_LOAD "ldmia.w r0!, {r2, r3, r12, lr}\n"
#define MK_MAT1_TWO MK_MAT1_QUAD("r2", "r3") MK_MAT1_QUAD("r12", "lr")
#define MK_MAT1_BYTES_QUAD "ldr r3, [r0], #4\n sxtb16 r2, r3\n sxtb16 r3, r3, ror #8\n" MK_MAT1_QUAD("r2", "r3")

/* How many quads the inner loop takes at once: a power of two. */
#ifdef MK_MAT_FAST
#define MK_MAT_TIMES(QUAD) QUAD QUAD QUAD QUAD QUAD QUAD QUAD QUAD
#define MK_MAT1_LOOP MK_MAT1_TWO MK_MAT1_LOAD MK_MAT1_TWO MK_MAT1_LOAD MK_MAT1_TWO MK_MAT1_LOAD MK_MAT1_TWO
#define MK_MAT_MASK "7"
#else
#define MK_MAT_TIMES(QUAD) QUAD QUAD QUAD QUAD
#define MK_MAT1_LOOP MK_MAT1_TWO MK_MAT1_LOAD MK_MAT1_TWO
#define MK_MAT_MASK "3"
#endif

/* Frame: 0 first quad's address, 4 inputs, 8 end of the stream, 12 end of the inputs, 16 scale, 20 offset, 24 out0, 28 out1,
 * 32 stream, 36 pairs left, 40 bytes of the inputs, 44 out0 of the first group, 48 beside, 52 step. */
#define MK_MAT_ENTER(INPUT_BYTES, QUAD_BYTES)                                                                   \
    "push {r4-r11, lr}\n sub sp, sp, #56\n ldmia.w r0, {r4-r10}\n strd r1, r5, [sp, #4]\n"                       \
    "strd r7, r8, [sp, #16]\n add r7, r2, r9\n strd r2, r7, [sp, #24]\n strd r4, r3, [sp, #32]\n"               \
    "lsl.w r5, r6, #" INPUT_BYTES "\n strd r5, r2, [sp, #40]\n strd r9, r10, [sp, #48]\n mov r0, r1\n add r5, r5, r1\n" \
    "str r5, [sp, #12]\n rsb r6, r6, #0\n and r6, r6, #" MK_MAT_MASK "\n mov r7, #" QUAD_BYTES "\n adr.w r8, 2f\n" \
    "mla r8, r6, r7, r8\n orr r8, r8, #1\n str r8, [sp]\n mov r1, r4\n"
#define MK_MAT_NEXT_GROUP "ldrd r0, r2, [sp, #4]\n cmp r1, r2\n bne.w 1b\n"
#define MK_MAT_LEAVE "add sp, sp, #56\n pop {r4-r11, pc}\n"

#define MK_MAT2_BODY(OUTS)                                                                                      \
    MK_MAT_ENTER("4", MK_MAT2_QUAD_BYTES)                                                                       \
    "1: ldmia.w r1, {r4-r7}\n ldmia.w r1!, {r8-r11}\n ldr pc, [sp]\n"                                           \
    ".balign 4\n 2:\n" MK_MAT_TIMES(MK_MAT2_QUAD) "ldr r2, [sp, #12]\n cmp r0, r2\n bne.w 2b\n"                 \
    "sub.w r4, r4, r5\n sub.w r8, r8, r9\n sub.w r6, r6, r7\n sub.w r10, r10, r11\n" OUTS                       \
    "ldrd r2, r3, [sp, #24]\n strb r4, [r2, #1]\n strb r7, [r2, #2]\n strb r6, [r2, #3]\n"                      \
    "strb r5, [r2], #4\n strb.w r8, [r3, #1]\n strb.w r11, [r3, #2]\n strb.w r10, [r3, #3]\n"                   \
    "strb r9, [r3], #4\n strd r2, r3, [sp, #24]\n" MK_MAT_NEXT_GROUP                                            \
    "add r0, sp, #32\n ldmia.w r0, {r1, r4, r5, r6, r7, r8}\n ldr r0, [sp, #12]\n subs r4, r4, #1\n beq 3f\n"   \
    "add r6, r6, r8\n add r7, r7, r6\n strd r6, r7, [sp, #24]\n str r4, [sp, #36]\n str r6, [sp, #44]\n" \
    "add r5, r5, r0\n str r0, [sp, #4]\n str r5, [sp, #12]\n b.w 1b\n 3: " MK_MAT_LEAVE

/* Frame: 0 where the loop is entered, 4 inputs, 8 end of the stream, 12 end of the inputs, 16 scale, 20 offset, 24 out,
 * 28 form. BEGIN moves r1 to the first load of inputs. */
#define MK_MAT1_BODY(QUAD_SHIFT, BEGIN, QUAD_BYTES, LOOP)                                                       \
    "push {r4-r11, lr}\n sub sp, sp, #32\n ldmia.w r0, {r4-r8}\n add.w r9, r1, r6, lsl #" QUAD_SHIFT "\n"       \
    "strd r7, r8, [sp, #16]\n" BEGIN "strd r1, r5, [sp, #4]\n str r9, [sp, #12]\n strd r2, r3, [sp, #24]\n"     \
    "rsb r6, r6, #0\n and r6, r6, #" MK_MAT_MASK "\n mov r7, #" QUAD_BYTES "\n adr.w r8, 2f\n"                  \
    "mla r8, r6, r7, r8\n bic r8, r8, #3\n orr r8, r8, #1\n str r8, [sp]\n mov r0, r1\n mov r1, r4\n"          \
    "1: ldmia.w r1!, {r4-r7}\n" LOOP "sub.w r4, r4, r5\n sub.w r6, r6, r7\n" MK_MAT1_OUTS                      \
    "ldr r0, [sp, #24]\n strb r4, [r0, #1]\n strb r7, [r0, #2]\n strb r6, [r0, #3]\n strb r5, [r0], #4\n"       \
    "str r0, [sp, #24]\n ldrd r0, r2, [sp, #4]\n cmp r1, r2\n bne.w 1b\n add sp, sp, #32\n pop {r4-r11, pc}\n"

/* Sums in registers to outputs. */
#define MK_MAT_EVEN(x, mult, addend) "smmla " x ", " x ", " mult ", " addend "\n ssat " x ", #8, " x ", asr #3\n"
#define MK_MAT_ODD(x, mult, addend) "smmla " x ", " x ", " mult ", " addend "\n ssat " x ", #8, " x ", asr #11\n"

MK_ASM void mk_mat2_fitted(MK_ARG const struct mk_mat_s8 *m, MK_ARG const int32_t *x, MK_ARG int8_t *out,
                           MK_ARG int pairs) {
    __asm__(MK_MAT2_BODY("ldmia.w r1!, {r0, r2, r3, r12, lr}\n"
                         MK_MAT_EVEN("r5", "r0", "lr") MK_MAT_EVEN("r9", "r0", "lr")
                         MK_MAT_ODD("r4", "r2", "lr") MK_MAT_ODD("r8", "r2", "lr")
                         MK_MAT_EVEN("r7", "r3", "lr") MK_MAT_EVEN("r11", "r3", "lr")
                         MK_MAT_ODD("r6", "r12", "lr") MK_MAT_ODD("r10", "r12", "lr")));
}

/* r12 the shifts, s in its low byte; lr mult, r2 scale >> s, r3 offset. */
#define MK_EXACT(x) "smmlar " x ", " x ", lr, " x "\n smmlar " x ", " x ", r2, r3\n ssat " x ", #8, " x "\n"
#define MK_EXACT_BEGIN "ldrd r0, r3, [sp, #16]\n ldr.w r12, [r1, #16]\n"
#define MK_EXACT_CHANNEL(BYTES) "ldr lr, [r1], #" BYTES "\n lsr.w r2, r0, r12\n"
#define MK_EXACT_NEXT "lsr.w r12, r12, #8\n"
#define MK_EXACT_ODD(x) "asr.w " x ", " x ", #8\n"

#ifdef MK_MAT2_EXACT
MK_ASM void mk_mat2_exact(MK_ARG const struct mk_mat_s8 *m, MK_ARG const int32_t *x, MK_ARG int8_t *out,
                          MK_ARG int pairs) {
    __asm__(MK_MAT2_BODY(MK_EXACT_BEGIN MK_EXACT_CHANNEL("4") MK_EXACT("r5") MK_EXACT("r9") MK_EXACT_NEXT
                             MK_EXACT_CHANNEL("4") MK_EXACT_ODD("r4") MK_EXACT_ODD("r8") MK_EXACT("r4") MK_EXACT("r8")
                             MK_EXACT_NEXT MK_EXACT_CHANNEL("4") MK_EXACT("r7") MK_EXACT("r11") MK_EXACT_NEXT
                             MK_EXACT_CHANNEL("8") MK_EXACT_ODD("r6") MK_EXACT_ODD("r10") MK_EXACT("r6") MK_EXACT("r10")));
}
#endif

#define MK_MAT1_FITTED                                                                                          \
    "ldmia.w r1!, {r8-r12}\n" MK_MAT_EVEN("r5", "r8", "r12") MK_MAT_ODD("r4", "r9", "r12")                      \
        MK_MAT_EVEN("r7", "r10", "r12") MK_MAT_ODD("r6", "r11", "r12")

#ifdef MK_MAT1_EXACT
#define MK_MAT1_OUTS                                                                                            \
    "ldr r0, [sp, #28]\n cbz r0, 4f\n" MK_EXACT_BEGIN MK_EXACT_CHANNEL("4") MK_EXACT("r5") MK_EXACT_NEXT        \
        MK_EXACT_CHANNEL("4") MK_EXACT_ODD("r4") MK_EXACT("r4") MK_EXACT_NEXT                                   \
        MK_EXACT_CHANNEL("4") MK_EXACT("r7") MK_EXACT_NEXT MK_EXACT_CHANNEL("8") MK_EXACT_ODD("r6") MK_EXACT("r6") \
        "b 5f\n 4:\n" MK_MAT1_FITTED "5:\n"
#else
#define MK_MAT1_OUTS MK_MAT1_FITTED
#endif

/* Widened inputs, two quads a load. A quad takes 52 bytes, a load 4, and the loop is entered behind one: where quads are odd,
 * at the second quad, and the load begins two words before the inputs. */
MK_ASM void mk_mat1_words(MK_ARG const struct mk_mat_s8 *m, MK_ARG const int32_t *x, MK_ARG int8_t *out, MK_ARG int form) {
    __asm__(MK_MAT1_BODY("3", "and r0, r6, #1\n sub.w r1, r1, r0, lsl #3\n", "54",
                         MK_MAT1_LOAD "ldr pc, [sp]\n .balign 4\n 3: " MK_MAT1_LOAD "2:\n" MK_MAT1_LOOP
                                      "ldr r2, [sp, #12]\n cmp r0, r2\n bne.w 3b\n"));
}

MK_ASM void mk_mat1_bytes(MK_ARG const struct mk_mat_s8 *m, MK_ARG const int8_t *x, MK_ARG int8_t *out, MK_ARG int form) {
    __asm__(MK_MAT1_BODY("2", "", "64",
                         "ldr lr, [sp, #12]\n ldr pc, [sp]\n .balign 4\n"
                         "2:\n" MK_MAT_TIMES(MK_MAT1_BYTES_QUAD) "cmp r0, lr\n bne.w 2b\n"));
}

#else

/* The outputs of one group from its sums; the stream stands behind the weights. Gives the place behind the group. */
static inline const int32_t *mk_mat_out(const struct mk_mat_s8 *m, const int32_t *w, const uint32_t *sums, int8_t *out) {
    for (int i = 0; i < 4; ++i) {
        const int32_t sum = (int32_t)(i & 1 ? sums[i - 1] - sums[i] : sums[i + 1]), acc = i & 1 ? sum >> 8 : sum;
        if (m->form == MK_MAT_FITTED) {
            const int32_t high = (int32_t)((int64_t)sum * w[i] >> 32) + w[4];
            out[i] = (int8_t)mk_clamp(high >> (i & 1 ? 11 : 3), -128, 127);
        } else {
            const int32_t scale = (int32_t)((uint32_t)m->scale >> ((uint32_t)w[4] >> 8 * i & 255));
            const int32_t high = acc + mk_smmulr(acc, w[i]);
            out[i] = (int8_t)mk_clamp(mk_smmulr(high, scale) + m->offset, -128, 127);
        }
    }
    return w + 5;
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

static inline void mk_mat1_words(const struct mk_mat_s8 *m, const int32_t *x, int8_t *out, int form) {
    (void)form;
    mk_mat_words(m, x, 1, out);
}

static inline void mk_mat1_bytes(const struct mk_mat_s8 *m, const int8_t *x, int8_t *out, int form) {
    (void)form;
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

static inline void mk_mat2_groups(const struct mk_mat_s8 *m, const int32_t *x, int8_t *out, int pairs) {
#if !MK_DSP
    for (; pairs > 0; --pairs, x += 4 * m->quads, out += m->step) {
        mk_mat_words(m, x, 2, out);
        mk_mat_words(m, x + 1, 2, out + m->beside);
    }
#else
#ifdef MK_MAT2_EXACT
    if (m->form == MK_MAT_EXACT) {
        mk_mat2_exact(m, x, out, pairs);
        return;
    }
#endif
    mk_mat2_fitted(m, x, out, pairs);
#endif
}

/* Of one pixel, whose inputs are words, or int8 where they are `narrow`. */
static inline void mk_mat1_groups(const struct mk_mat_s8 *m, const void *x, int narrow, int8_t *out) {
    if (narrow)
        mk_mat1_bytes(m, x, out, m->form);
    else
        mk_mat1_words(m, x, out, m->form);
}

/* The last four channels, where channels are no multiple of four: they overlap the group before. */
static inline struct mk_mat_s8 mk_mat_last(const struct mk_mat_s8 *m) {
    const int words = 4 * m->quads + MK_MAT_EXTRA;
    const struct mk_mat_s8 last = {m->end,    m->end + words, m->quads,  m->scale, m->offset,
                                   m->beside, m->step,        m->out_ch, m->form};
    return last;
}

/* All outputs of pairs of pixels, whose words lie side by side at x, pair behind pair. Gives the place behind them, where one
 * pixel lies behind the other, as they do where there are under four channels. */
MK_DRIVER __attribute__((unused)) static int8_t *mk_mat2(const struct mk_mat_s8 *m, const int32_t *x, int8_t *out, int pairs) {
    if (m->stream != m->end) mk_mat2_groups(m, x, out, pairs);
    int8_t *const end = out + 2 * pairs * m->out_ch;
    if (m->out_ch & 3) {
        struct mk_mat_s8 last = mk_mat_last(m);
        if (m->out_ch > 4) {
            mk_mat2_groups(&last, x, out + m->out_ch - 4, pairs);
            return end;
        }
        last.beside = 4;
        for (; out != end; x += 4 * m->quads) {
            int8_t ends[8];
            mk_mat2_groups(&last, x, ends, 1);
            out = mk_append_s8(mk_append_s8(out, ends, 0, m->out_ch), ends, 4, m->out_ch);
        }
    }
    return end;
}

/* All outputs of one pixel: its words lie at x, and where quads are odd, two more before them are read; or its int8 inputs. */
MK_DRIVER __attribute__((unused)) static int8_t *mk_mat1(const struct mk_mat_s8 *m, const void *x, int narrow, int8_t *out) {
    if (m->stream != m->end) mk_mat1_groups(m, x, narrow, out);
    if (m->out_ch & 3) {
        const struct mk_mat_s8 last = mk_mat_last(m);
        int8_t ends[4];
        mk_mat1_groups(&last, x, narrow, ends);
        mk_append_s8(out + mk_max(m->out_ch - 4, 0), ends, 0, mk_min(m->out_ch, 4));
    }
    return out + m->out_ch;
}
