/* The product of a matrix of weights and a row of inputs, with its outputs, for cores without SIMD: four channels at a time.
 * Weights are stored with 128 added, which needs no sign; 128 times the sum of the inputs is taken off. The stream has for each
 * four channels
 *
 *     bias (4 int32, with the input's zero point), weights (of each input: 4 uint8), mult, addend (4 int32 each), shift (4 int8)
 *
 * of mk_out_x4.h.
 */
struct mk_mat_x4 {
    const int32_t *stream;
    int32_t inputs, out_ch, low, act_min, act_max;
};

/* Add the products of `n` inputs to the sums of a group. */
#if MK_V6M
#define MK_MAT_X4_TAP(at, sum) "ldrb r4, [r1, #" at "]\n muls r4, r3\n add " sum ", r4\n"
#define MK_MAT_X4_STEP(at, a, b, c, d)                                                     \
    "ldrb r3, [r2, #" at "]\n sxtb r3, r3\n" MK_MAT_X4_TAP(a, "r8") MK_MAT_X4_TAP(b, "r9") \
        MK_MAT_X4_TAP(c, "r10") MK_MAT_X4_TAP(d, "r11")
MK_NAKED void mk_mat_x4_sums(MK_ARG uint32_t sums[4], MK_ARG const uint8_t *w, MK_ARG const int8_t *x, MK_ARG int n) {
    __asm__(".syntax unified\n push {r4, r5, r6, r7, lr}\n mov r4, r8\n mov r5, r9\n mov r6, r10\n mov r7, r11\n"
            "push {r4, r5, r6, r7}\n ldmia r0!, {r4, r5, r6, r7}\n mov r8, r4\n mov r9, r5\n mov r10, r6\n mov r11, r7\n"
            "subs r0, #16\n movs r4, #3\n ands r4, r3\n subs r3, r3, r4\n adds r6, r2, r3\n adds r7, r6, r4\n b 2f\n"
            "1:\n" MK_MAT_X4_STEP("0", "0", "1", "2", "3") MK_MAT_X4_STEP("1", "4", "5", "6", "7")
                MK_MAT_X4_STEP("2", "8", "9", "10", "11") MK_MAT_X4_STEP("3", "12", "13", "14", "15")
            "adds r2, #4\n adds r1, #16\n 2: cmp r2, r6\n bne 1b\n b 4f\n"
            "3:\n" MK_MAT_X4_STEP("0", "0", "1", "2", "3") "adds r2, #1\n adds r1, #4\n 4: cmp r2, r7\n bne 3b\n"
            "mov r4, r8\n mov r5, r9\n mov r6, r10\n mov r7, r11\n stmia r0!, {r4, r5, r6, r7}\n pop {r4, r5, r6, r7}\n"
            "mov r8, r4\n mov r9, r5\n mov r10, r6\n mov r11, r7\n pop {r4, r5, r6, r7, pc}\n");
}
#else
#define MK_MAT_X4_STEP(k)                                                                             \
    do {                                                                                              \
        const uint32_t u = (uint32_t)x[k];                                                            \
        s0 += u * w[4 * k], s1 += u * w[4 * k + 1], s2 += u * w[4 * k + 2], s3 += u * w[4 * k + 3];   \
        __asm__ volatile("" ::: "memory"); /* no load is moved before this: those of several would spill */ \
    } while (0)
MK_SHARED void mk_mat_x4_sums(uint32_t sums[4], const uint8_t *w, const int8_t *x, int n) {
    uint32_t s0 = sums[0], s1 = sums[1], s2 = sums[2], s3 = sums[3];
    const int8_t *end = x + n;
    for (; (end - x) & 3; ++x, w += 4) MK_MAT_X4_STEP(0);
    for (; x != end; x += 4, w += 16) {
        MK_MAT_X4_STEP(0);
        MK_MAT_X4_STEP(1);
        MK_MAT_X4_STEP(2);
        MK_MAT_X4_STEP(3);
    }
    sums[0] = s0, sums[1] = s1, sums[2] = s2, sums[3] = s3;
}
#endif
#undef MK_MAT_X4_STEP

MK_SHARED void mk_mat_x4(const struct mk_mat_x4 *p, const int8_t *x, int8_t *out) {
    const int32_t *group = p->stream;
    uint32_t total = 0; /* unsigned, because sums of this and products may wrap on the way */
    for (int k = 0; k < p->inputs; ++k) total += (uint32_t)x[k];
    for (int o = 0; o < p->out_ch; o += 4, group += p->inputs + 13) {
        const int32_t *mult = group + p->inputs + 4;
        const int8_t *shift = (const int8_t *)(mult + 8);
        uint32_t sums[4];
        for (int c = 0; c < 4; ++c) sums[c] = (uint32_t)group[c] - 128 * total;
        mk_mat_x4_sums(sums, (const uint8_t *)(group + 4), x, p->inputs);
        for (int c = 0; c < mk_min(4, p->out_ch - o); ++c) {
            const struct mk_out_x4 q = {mult[c], mult[4 + c], shift[c], p->act_min, p->act_max};
            out[o + c] = mk_out_x4(&q, (int32_t)sums[c], p->low);
        }
    }
}
