/* The sums of mk_add_s8.h, or the differences, on DSP instructions.
 *
 *     y = saturate((a_mult * a >> 8) + (b_mult * b >> 8) + start >> 21)
 *
 * is the same for all 65,536 pairs of codes: `fit_sum` in ops/elementwise.py tries them.
 */
struct mk_add_s8_dsp {
    int32_t row_elems, a_mult, b_mult, start, act_min, act_max;
};

/* Four sums at a time; gives the place behind them. */
#if MK_DSP
#define MK_ADD_SUM(to, HALF, a, b)                                                                      \
    "smlaw" HALF " " to ", r4, " a ", r6\n smlaw" HALF " " to ", r5, " b ", " to "\n ssat " to ", #8, " to ", asr #21\n"
MK_ASM int8_t *mk_add_quads(MK_ARG int8_t *out, MK_ARG const int8_t *a, MK_ARG const int8_t *b,
                            MK_ARG const struct mk_add_s8_dsp *p) {
    /* halfwords are codes * 256: r9 and r11 of the elements 1 and 3, r7 and r8 of 0 and 2 */
    __asm__("push {r4-r11, lr}\n ldmia r3, {r3, r4, r5, r6}\n mov.w r10, #0xff00ff00\n bic r3, r3, #3\n add r3, r3, r0\n b 2f\n"
            "1: ldr r7, [r1], #4\n ldr r8, [r2], #4\n and.w r9, r7, r10\n and.w r11, r8, r10\n"
            "and.w r7, r10, r7, lsl #8\n and.w r8, r10, r8, lsl #8\n"
            MK_ADD_SUM("r12", "b", "r7", "r8") MK_ADD_SUM("lr", "b", "r9", "r11")
            "strb.w lr, [r0, #1]\n strb r12, [r0], #4\n"
            MK_ADD_SUM("r12", "t", "r7", "r8") MK_ADD_SUM("lr", "t", "r9", "r11")
            "strb r12, [r0, #-2]\n strb lr, [r0, #-1]\n"
            "2: cmp r0, r3\n bne 1b\n pop {r4-r11, pc}\n");
}
#endif

static int8_t *mk_add_row(int8_t *out, const int8_t *a, const int8_t *b, int n, const struct mk_add_s8_dsp *p) {
    for (; n > 0; --n) {
        const int32_t wide_a = (int32_t)((int64_t)p->a_mult * *a++ >> 8), wide_b = (int32_t)((int64_t)p->b_mult * *b++ >> 8);
        *out++ = (int8_t)mk_clamp((wide_a + wide_b + p->start) >> 21, -128, 127);
    }
    return out;
}

MK_KERNEL static void mk_add_s8_dsp(const struct mk_add_s8_dsp *p, const int8_t *const *in, const int8_t *const *in1,
                                    int8_t *out, int rows) {
    int8_t *to = out;
    for (int r = 0; r < rows; ++r) {
        int done = 0;
#if MK_DSP
        to = mk_add_quads(to, in[r], in1[r], p);
        done = p->row_elems & ~3;
#endif
        to = mk_add_row(to, in[r] + done, in1[r] + done, p->row_elems - done, p);
    }
    if (p->act_min > -128 || p->act_max < 127) mk_clamp_row_s8(out, (int)(to - out), p->act_min, p->act_max);
}
