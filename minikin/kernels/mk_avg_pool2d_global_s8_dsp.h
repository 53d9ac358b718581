/* The global average of mk_avg_pool2d_global_s8.h on DSP instructions: sums of a row as halfwords, four channels at a time.
 *
 * A row has at most 255 pixels, so that its sums fit; channels are a multiple of four.
 */
struct mk_avg_pool2d_global_s8_dsp {
    int32_t in_h, in_w, in_ch;
    int32_t act_min, act_max;
    int32_t code_offset; /* 128 where the codes were a uint8 model's, else 0 */
    int32_t *sums;
};

#if MK_DSP
MK_ASM void mk_sum_row_dsp(MK_ARG int32_t *sums, MK_ARG const int8_t *in, MK_ARG int pixels, MK_ARG int channels) {
    __asm__("push {r4-r10, lr}\n mov r10, r3\n"
            "1: mov r4, r1\n mov r5, r2\n movs r6, #0\n movs r7, #0\n"
            "2: ldr.w r8, [r4]\n add r4, r4, r3\n sxtab16 r6, r6, r8\n sxtab16 r7, r7, r8, ror #8\n subs r5, r5, #1\n bne 2b\n"
            "ldmia.w r0, {r4, r5, r8, r9}\n sxtah r4, r4, r6\n sxtah r5, r5, r7\n sxtah r8, r8, r6, ror #16\n"
            "sxtah r9, r9, r7, ror #16\n stmia.w r0!, {r4, r5, r8, r9}\n add r1, r1, #4\n subs.w r10, r10, #4\n bne 1b\n"
            "pop {r4-r10, pc}\n");
}
#else
static void mk_sum_row_dsp(int32_t *sums, const int8_t *in, int pixels, int channels) {
    mk_sum_row_s8(sums, in, pixels, channels, 0, 0);
}
#endif

static void mk_avg_pool2d_global_s8_dsp(const struct mk_avg_pool2d_global_s8_dsp *p, const int8_t *in, int8_t *out, int row) {
    const int32_t pixels = p->in_h * p->in_w;
    if (row == 0)
        for (int c = 0; c < p->in_ch; ++c) p->sums[c] = pixels * p->code_offset;
    mk_sum_row_dsp(p->sums, in, p->in_w, p->in_ch);
    if (row < p->in_h - 1) return;
    for (int c = 0; c < p->in_ch; ++c) {
        int32_t sum = p->sums[c], half = sum > 0 ? pixels / 2 : -(pixels / 2);
        out[c] = (int8_t)mk_clamp((sum + half) / pixels - p->code_offset, p->act_min, p->act_max);
    }
}
