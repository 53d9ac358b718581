/* Helium (MVE) of the Cortex-M55: what its kernels share. Each is assembly with a C twin for the host.
 *
 * Four output channels of two pixels are computed together: their eight sums lie in r0, r2, r4, r6 (first pixel) and r8,
 * r10, r12, lr (second), where VMLADAVA adds sixteen products at once. What follows the sums of a group, in one stream
 * that r5 walks along:
 *
 *     bias (4 int32), weights, mult (4 int32), -exponent (4 int8)
 *     y = saturate(round(round(sum * mult / 2^31) / 2^exponent) + offset), 1 <= exponent, halves away from zero
 *
 * MK_MVE_SIGNED makes up for negative halves, which VRSHL rounds up; where outputs are clamped at the offset or above
 * they do not matter (MK_MVE_RELU).
 */
#if defined(__ARM_FEATURE_MVE) && (__ARM_FEATURE_MVE & 1)
#include <arm_mve.h>
#define MK_MVE 1
#else
#define MK_MVE 0
#endif

#if MK_MVE
#define MK_MVE_RELU ""
#define MK_MVE_SIGNED "vshr.s32 q2, q0, #31\n vadd.i32 q0, q0, q2\n vshr.s32 q2, q1, #31\n vadd.i32 q1, q1, q2\n"

/* The sums of a group. */
#define MK_MVE_BIAS "ldmia.w r5, {r0, r2, r4, r6}\n ldmia.w r5!, {r8, r10, r12, lr}\n"

/* Store the outputs of a group at r11 and move on: r9 is twice the number of channels left, q4 the offset, q5 the places
 * of the outputs (MK_MVE_PLACES). Changes q0 to q3. */
#define MK_MVE_OUTPUTS(fix)                                                                                      \
    "vmov q0[2], q0[0], r0, r4\n vmov q0[3], q0[1], r2, r6\n vmov q1[2], q1[0], r8, r12\n"                       \
    "vmov q1[3], q1[1], r10, lr\n vldrw.u32 q2, [r5], #16\n vldrb.s32 q3, [r5], #4\n vctp.16 r9\n"               \
    "vqrdmulh.s32 q0, q0, q2\n vqrdmulh.s32 q1, q1, q2\n" fix "vrshl.s32 q0, q0, q3\n vrshl.s32 q1, q1, q3\n"    \
    "vqmovnb.s32 q0, q0\n vqmovnt.s32 q0, q1\n vqadd.s16 q0, q0, q4\n vqmovnb.s16 q0, q0\n"                      \
    "vpst\n vstrbt.16 q0, [r11, q5]\n add.w r11, r11, #4\n subs.w r9, r9, #8\n"

/* q5: the places of four outputs of a pixel and, `r3` bytes behind, of another, in turns. Changes r0 and r1. */
#define MK_MVE_PLACES                                                                                    \
    "mov.w r0, #0\n vidup.u32 q5, r0, #1\n mov.w r1, #0x00010001\n vmul.i32 q5, q5, r1\n lsl.w r1, r3, #16\n" \
    "vadd.i32 q5, q5, r1\n"
#else

/* `count` outputs of four sums, by the constants at `at`. */
__attribute__((unused)) static void mk_mve_outputs(const int32_t *sums, const int8_t *at, int count, int32_t offset,
                                                   int is_signed, int8_t *out) {
    int32_t mult[4];
    __builtin_memcpy(mult, at, 16);
    for (int i = 0; i < count; ++i) {
        int32_t high = mk_high_mul(sums[i], mult[i]);
        if (is_signed) high += high >> 31;
        high = ((high >> (-at[16 + i] - 1)) + 1) >> 1;
        out[i] = (int8_t)mk_clamp(mk_clamp(high, -32768, 32767) + offset, -128, 127);
    }
}
#endif

/* Copy `count` runs of `size` bytes that begin `from_step` apart to places `step` apart. */
#if MK_MVE
MK_ASM void mk_mve_copy_runs(MK_ARG int8_t *to, MK_ARG int step, MK_ARG const int8_t *from, MK_ARG int from_step,
                             MK_ARG int size, MK_ARG int count) {
    __asm__("push {r4, r5, r6, r7, lr}\n ldrd r4, r7, [sp, #20]\n cmp r7, #0\n ble 9f\n cmp r4, #0\n ble 9f\n"
            "1: vctp.8 r4\n mov r5, r0\n mov r6, r2\n dls lr, r7\n"
            "2: vpstt\n vldrbt.u8 q0, [r6]\n vstrbt.8 q0, [r5]\n add r6, r3\n add r5, r1\n le lr, 2b\n"
            "adds r0, #16\n adds r2, #16\n subs r4, #16\n bgt 1b\n 9: pop {r4, r5, r6, r7, pc}\n");
}
#else
static inline void mk_mve_copy_runs(int8_t *to, int step, const int8_t *from, int from_step, int size, int count) {
    for (; count > 0; --count, to += step, from += from_step)
        for (int i = 0; i < size; ++i) to[i] = from[i];
}
#endif

/* Fill `count` runs of `size` bytes at places `step` apart. */
#if MK_MVE
MK_ASM void mk_mve_fill_runs(MK_ARG int8_t *to, MK_ARG int step, MK_ARG int size, MK_ARG int count, MK_ARG int32_t value) {
    __asm__("push {r4, lr}\n ldr r4, [sp, #8]\n vdup.8 q0, r4\n cmp r3, #0\n ble 9f\n cmp r2, #0\n ble 9f\n"
            "1: vctp.8 r2\n mov r12, r0\n dls lr, r3\n"
            "2: vpst\n vstrbt.8 q0, [r12]\n add r12, r1\n le lr, 2b\n"
            "adds r0, #16\n subs r2, #16\n bgt 1b\n 9: pop {r4, pc}\n");
}
#else
static inline void mk_mve_fill_runs(int8_t *to, int step, int size, int count, int32_t value) {
    for (; count > 0; --count, to += step) mk_fill_s8(to, (int8_t)value, size);
}
#endif

/* Copy `bytes` bytes, `size` at a time: the i-th of each run to places[i], unsigned, counted from `step` behind the run before. */
#if MK_MVE
MK_ASM void mk_mve_scatter_runs(MK_ARG int8_t *to, MK_ARG int step, MK_ARG const int8_t *from, MK_ARG int size,
                                MK_ARG const int8_t *places, MK_ARG int bytes) {
    __asm__("push {r4, r5, r6, r7, lr}\n ldrd r4, r5, [sp, #20]\n vldrb.u8 q1, [r4]\n udiv r6, r5, r3\n mls r7, r6, r3, r5\n"
            "vctp.8 r3\n wls lr, r6, 2f\n"
            "1: vpstt\n vldrbt.u8 q0, [r2]\n vstrbt.8 q0, [r0, q1]\n add r2, r3\n add r0, r1\n le lr, 1b\n"
            "2: vctp.8 r7\n vpstt\n vldrbt.u8 q0, [r2]\n vstrbt.8 q0, [r0, q1]\n pop {r4, r5, r6, r7, pc}\n");
}
#else
static inline void mk_mve_scatter_runs(int8_t *to, int step, const int8_t *from, int size, const int8_t *places, int bytes) {
    for (int i = 0; i < bytes; ++i) to[i / size * step + (uint8_t)places[i % size]] = from[i];
}
#endif

/* sums[c] += the row's inputs of channel c; `first` starts the sums at `start`. */
#if MK_MVE
__attribute__((unused)) static void mk_mve_sum_row_s8(int32_t *sums, const int8_t *in, int width, int channels,
                                                      int32_t start, int first) {
    const int step = channels;
    for (; channels >= 16; channels -= 16, sums += 16, in += 16) {
        int32x4_t a = vdupq_n_s32(start), b = a, c = a, d = a;
        if (!first) a = vldrwq_s32(sums), b = vldrwq_s32(sums + 4), c = vldrwq_s32(sums + 8), d = vldrwq_s32(sums + 12);
        const int8_t *x = in;
        for (int i = width; i > 0; --i, x += step) {
            a = vaddq_s32(a, vldrbq_s32(x)), b = vaddq_s32(b, vldrbq_s32(x + 4));
            c = vaddq_s32(c, vldrbq_s32(x + 8)), d = vaddq_s32(d, vldrbq_s32(x + 12));
        }
        vstrwq_s32(sums, a), vstrwq_s32(sums + 4, b), vstrwq_s32(sums + 8, c), vstrwq_s32(sums + 12, d);
    }
    for (; channels > 0; channels -= 4, sums += 4, in += 4) {
        const mve_pred16_t lanes = vctp32q((uint32_t)channels);
        int32x4_t a = first ? vdupq_n_s32(start) : vldrwq_z_s32(sums, lanes);
        const int8_t *x = in;
        for (int i = width; i > 0; --i, x += step) a = vaddq_s32(a, vldrbq_z_s32(x, lanes));
        vstrwq_p_s32(sums, a, lanes);
    }
}
#else
static inline void mk_mve_sum_row_s8(int32_t *sums, const int8_t *in, int width, int channels, int32_t start, int first) {
    mk_sum_row_s8(sums, in, width, channels, start, first);
}
#endif
