/* Helium's product of a matrix of weights and pixels, with its outputs: groups of four output channels as in mk_mve.h. A pixel's
 * inputs are `vectors` times 16 bytes in a row, and so are a channel's weights: those of the first 16 inputs for each of
 * four channels, then those of the next 16 inputs. What is beyond the inputs has weights of zero.
 */
struct mk_mat_mve {
    const int32_t *stream;
    int32_t vectors, out_ch, offset, step; /* bytes from a pixel to the next */
};

#if MK_MVE
#define MK_MAT_MVE_TAPS(a, b) "vldrb.u8 q2, [r5], #16\n vmladava.s8 " a ", q0, q2\n vmladava.s8 " b ", q1, q2\n"
#define MK_MAT_MVE_STEP2                                                                                       \
    "vldrb.u8 q0, [r1], #16\n vldrb.u8 q1, [r3], #16\n" MK_MAT_MVE_TAPS("r0", "r8") MK_MAT_MVE_TAPS("r2", "r10") \
        MK_MAT_MVE_TAPS("r4", "r12") MK_MAT_MVE_TAPS("r6", "lr")
#define MK_MAT_MVE_TAP(a) "vldrb.u8 q2, [r5], #16\n vmladava.s8 " a ", q0, q2\n"
#define MK_MAT_MVE_STEP1                                                                            \
    "vldrb.u8 q0, [r1], #16\n" MK_MAT_MVE_TAP("r0") MK_MAT_MVE_TAP("r2") MK_MAT_MVE_TAP("r4") MK_MAT_MVE_TAP("r6")

/* The frame of both: pixels (2 words), rounds of the loop of four steps, where it is entered, stream, twice out_ch, out,
 * pairs, step, out_ch. In: r0 mat, r1 first pixel, r2 out, r3 pairs; a step has `size` bytes. */
#define MK_MAT_MVE_ENTER(size)                                                                                  \
    "push {r4-r11, lr}\n vpush {d8-d15}\n ldmia.w r0, {r4, r5, r6, r7, r8}\n mov.w r10, r3\n mov.w r9, r2\n"    \
    "mov.w r11, r1\n vdup.16 q4, r7\n mov.w r3, r6\n" MK_MVE_PLACES "add.w r0, r5, #3\n lsr.w r0, r0, #2\n"     \
    "rsb.w r1, r5, r0, lsl #2\n adr.w r2, 3f\n mov.w r12, #" size "\n mla r1, r1, r12, r2\n add.w r1, r1, #1\n"  \
    "push {r6}\n push {r8}\n push {r10}\n push {r9}\n lsl.w r6, r6, #1\n push {r6}\n push {r4}\n push {r0, r1}\n" \
    "add.w r1, r11, r8\n push {r1}\n push {r11}\n"
#define MK_MAT_MVE_LEAVE "add sp, sp, #40\n vpop {d8-d15}\n pop {r4-r11, pc}\n"

/* Pairs of pixels, at least one. */
#define MK_MAT_MVE2(fix)                                                                                          \
    MK_MAT_MVE_ENTER("56")                                                                                        \
    "1: add.w r0, sp, #16\n ldmia.w r0, {r5, r9, r11}\n"                                                          \
    "2: ldrd r1, r3, [sp]\n ldr.w r7, [sp, #8]\n" MK_MVE_BIAS "ldr.w pc, [sp, #12]\n .balign 4\n"                 \
    "3:\n" MK_MAT_MVE_STEP2 MK_MAT_MVE_STEP2 MK_MAT_MVE_STEP2 MK_MAT_MVE_STEP2 "subs.w r7, r7, #1\n bne.w 3b\n"   \
    MK_MVE_OUTPUTS(fix) "bhi.w 2b\n"                                                                              \
    "ldrd r0, r1, [sp]\n ldrd r2, r3, [sp, #24]\n ldrd r4, r5, [sp, #32]\n add.w r0, r0, r4, lsl #1\n"           \
    "add.w r1, r1, r4, lsl #1\n add.w r2, r2, r5, lsl #1\n subs.w r3, r3, #1\n strd r0, r1, [sp]\n"               \
    "strd r2, r3, [sp, #24]\n bne.w 1b\n" MK_MAT_MVE_LEAVE

/* One pixel; the places of its outputs are its own. */
#define MK_MAT_MVE1(fix)                                                                                         \
    MK_MAT_MVE_ENTER("36")                                                                                       \
    "add.w r0, sp, #16\n ldmia.w r0, {r5, r9, r11}\n lsr.w r9, r9, #1\n mov r7, r11\n"                                         \
    "2: ldr.w r1, [sp]\n ldr.w lr, [sp, #8]\n ldmia.w r5!, {r0, r2, r4, r6}\n ldr.w pc, [sp, #12]\n .balign 4\n" \
    "3:\n" MK_MAT_MVE_STEP1 MK_MAT_MVE_STEP1 MK_MAT_MVE_STEP1 MK_MAT_MVE_STEP1 "le lr, 3b\n"                     \
    "vmov q0[2], q0[0], r0, r4\n vmov q0[3], q0[1], r2, r6\n vldrw.u32 q2, [r5], #16\n vldrb.s32 q3, [r5], #4\n" \
    "vctp.32 r9\n vqrdmulh.s32 q0, q0, q2\n" fix "vrshl.s32 q0, q0, q3\n vqmovnb.s32 q0, q0\n"                   \
    "vqadd.s16 q0, q0, q4\n vqmovnb.s16 q0, q0\n vpst\n vstrbt.32 q0, [r7], #4\n subs.w r9, r9, #4\n bhi.w 2b\n" \
    MK_MAT_MVE_LEAVE

MK_ASM void mk_mat_mve2_relu(MK_ARG const struct mk_mat_mve *p, MK_ARG const int8_t *x, MK_ARG int8_t *out, MK_ARG int pairs) {
    __asm__(MK_MAT_MVE2(MK_MVE_RELU));
}

MK_ASM void mk_mat_mve2_signed(MK_ARG const struct mk_mat_mve *p, MK_ARG const int8_t *x, MK_ARG int8_t *out, MK_ARG int pairs) {
    __asm__(MK_MAT_MVE2(MK_MVE_SIGNED));
}

MK_ASM void mk_mat_mve1_signed(MK_ARG const struct mk_mat_mve *p, MK_ARG const int8_t *x, MK_ARG int8_t *out) {
    __asm__(MK_MAT_MVE1("vshr.s32 q2, q0, #31\n vadd.i32 q0, q0, q2\n"));
}

/* The outputs of `pixels` pixels, one behind the other. */
static inline void mk_mat_mve(const struct mk_mat_mve *p, const int8_t *x, int8_t *out, int pixels, int is_signed) {
    const int pairs = pixels >> 1;
    if (pairs && is_signed) mk_mat_mve2_signed(p, x, out, pairs);
    if (pairs && !is_signed) mk_mat_mve2_relu(p, x, out, pairs);
    if (pixels & 1) mk_mat_mve1_signed(p, x + 2 * pairs * p->step, out + 2 * pairs * p->out_ch);
}
#else
static inline void mk_mat_mve(const struct mk_mat_mve *p, const int8_t *x, int8_t *out, int pixels, int is_signed) {
    for (; pixels > 0; --pixels, x += p->step, out += p->out_ch) {
        const int8_t *at = (const int8_t *)p->stream;
        for (int o = 0; o < p->out_ch; o += 4) {
            int32_t sums[4];
            __builtin_memcpy(sums, at, 16), at += 16;
            for (int k = 0; k < 16 * p->vectors; k += 16)
                for (int c = 0; c < 4; ++c)
                    for (int i = 0; i < 16; ++i) sums[c] += x[k + i] * *at++;
            mk_mve_outputs(sums, at, mk_min(4, p->out_ch - o), p->offset, is_signed, out + o);
            at += 20;
        }
    }
}
#endif
