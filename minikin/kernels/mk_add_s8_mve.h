/* The sums of mk_add_s8.h on Helium, four elements at a time. Of the inputs, `l` has the larger scale: its wide form is
 * (l + offset) * 2^19 without rounding, as its multiplier is a half. That of `r` is rounded, halves away from zero, so
 *
 *     t = round(round((r * r_factor + r_term) * r_mult / 2^31) * 2^r_shift)
 *     y = saturate(round(round((t + l * l_factor + l_term) * mult / 2^31) * 2^shift) + offset), both shifts below zero
 */
struct mk_add_s8_mve {
    int32_t row_elems, swapped; /* 1: l is the second input */
    int32_t r_factor, r_term, r_mult, r_shift, l_factor, l_term, mult, shift, offset, act_min, act_max;
};

#if MK_MVE
MK_ASM void mk_add_s8_mve_row(MK_ARG const int32_t *constants, MK_ARG const int8_t *l, MK_ARG const int8_t *r,
                              MK_ARG int8_t *out, MK_ARG int count) {
    __asm__("ldr.w r12, [sp]\n push {r4-r11, lr}\n vpush {d8-d9}\n ldmia.w r0!, {r4-r10}\n vdup.32 q4, r4\n"
            "ldmia.w r0, {r0, r11}\n vdup.16 q3, r11\n dlstp.32 lr, r12\n"
            "1: vldrb.s32 q0, [r2], #4\n vldrb.s32 q1, [r1], #4\n vmlas.s32 q0, q4, r5\n vqrdmulh.s32 q0, q0, r6\n"
            "vshr.s32 q2, q0, #31\n vadd.i32 q0, q0, q2\n vrshl.s32 q0, r7\n vmla.s32 q0, q1, r8\n vadd.i32 q0, q0, r9\n"
            "vqrdmulh.s32 q0, q0, r10\n vshr.s32 q2, q0, #31\n vadd.i32 q0, q0, q2\n vrshl.s32 q0, r0\n"
            "vqmovnb.s32 q0, q0\n vqadd.s16 q0, q0, q3\n vqmovnb.s16 q0, q0\n vstrb.32 q0, [r3], #4\n letp lr, 1b\n"
            "vpop {d8-d9}\n pop {r4-r11, pc}\n");
}
#else
static inline void mk_add_s8_mve_row(const int32_t *constants, const int8_t *l, const int8_t *r, int8_t *out, int count) {
    const int32_t *const k = constants;
    for (int i = 0; i < count; ++i) {
        int32_t t = mk_high_mul(r[i] * k[0] + k[1], k[2]);
        t = (((t + (t >> 31)) >> (-k[3] - 1)) + 1) >> 1;
        int32_t high = mk_high_mul(t + l[i] * k[4] + k[5], k[6]);
        high = (((high + (high >> 31)) >> (-k[7] - 1)) + 1) >> 1;
        out[i] = (int8_t)mk_clamp(mk_clamp(high, -32768, 32767) + k[8], -128, 127);
    }
}
#endif

MK_KERNEL static void mk_add_s8_mve(const struct mk_add_s8_mve *p, const int8_t *const *in, const int8_t *const *in1,
                                    int8_t *out, int rows) {
    const int32_t constants[] = {p->r_factor, p->r_term, p->r_mult, p->r_shift, p->l_factor,
                                 p->l_term,   p->mult,   p->shift,  p->offset};
    int8_t *to = out;
    for (int r = 0; r < rows; ++r, to += p->row_elems) {
        const int8_t *left = p->swapped ? in1[r] : in[r], *right = p->swapped ? in[r] : in1[r];
        mk_add_s8_mve_row(constants, left, right, to, p->row_elems);
    }
    mk_clamp_row_s8(out, (int)(to - out), p->act_min, p->act_max);
}
