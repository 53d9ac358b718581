/* The product of a matrix of weights and pixels, with its outputs, for cores without SIMD: of four output channels for one pixel, or
 * for two where there are registers for eight sums. The stream has for each four channels
 *
 *     bias (4 int32), weights (of each input a word: 4 int8), mult (4 int32), exponent (4 int8)
 *     y = clamp(round(round(sum * mult / 2^31) / 2^exponent) + offset), 1 <= exponent, halves away from zero
 *
 * where the input's zero point is in the bias.
 */
#if defined(__thumb__) && !defined(__thumb2__)
#define MK_MAT_X4_PIXELS 1
#else
#define MK_MAT_X4_PIXELS 2
#endif

struct mk_mat_x4 {
    const int32_t *stream;
    int32_t inputs, out_ch, offset, act_min, act_max, step; /* bytes from a pixel to the next */
};

/* round(a * mult / 2^32), halves up, of an even a; 0 <= mult. */
static inline int32_t mk_mat_x4_high(int32_t a, int32_t mult) {
#if MK_MAT_X4_PIXELS == 1 /* a core without a product of 64 bits: by halves */
    const int32_t a1 = a >> 16, a0 = a & 0xFFFF, m1 = mult >> 16, m0 = mult & 0xFFFF;
    const int32_t low = a1 * m0 + (int32_t)((uint32_t)a0 * (uint32_t)m0 >> 16), middle = a0 * m1 + (low & 0xFFFF);
    return a1 * m1 + (low >> 16) + ((middle + (1 << 15)) >> 16);
#else
    const int64_t product = (int64_t)a * mult;
    return (int32_t)(product >> 32) + (int32_t)((uint32_t)product >> 31);
#endif
}

static inline int8_t mk_mat_x4_output(const struct mk_mat_x4 *p, int32_t sum, int32_t mult, int exponent) {
    int32_t high = mk_mat_x4_high(2 * sum, mult); /* |sum| < 2^30 */
    high = (((high + (high >> 31)) >> (exponent - 1)) + 1) >> 1;
    return (int8_t)mk_clamp(high + p->offset, p->act_min, p->act_max);
}

/* No load is moved before this: loads of several steps at once would spill. */
#define MK_MAT_X4_NEXT __asm__ volatile("" ::: "memory")
#define MK_MAT_X4_STEP2(k)                                                                    \
    do {                                                                                      \
        const int32_t u = a[k], v = b[k];                                                     \
        const int32_t w0 = w[4 * k], w1 = w[4 * k + 1], w2 = w[4 * k + 2], w3 = w[4 * k + 3]; \
        s0 += u * w0, s1 += u * w1, s2 += u * w2, s3 += u * w3;                               \
        t0 += v * w0, t1 += v * w1, t2 += v * w2, t3 += v * w3;                               \
    } while (0)

/* The sums of a group for two pixels of `n` inputs. Not inlined: inside the loop over groups it would run short of registers. */
MK_SHARED void mk_mat_x4_sums2(int32_t sums[8], const int32_t *group, const int8_t *a, const int8_t *b, int n) {
    int32_t s0 = group[0], s1 = group[1], s2 = group[2], s3 = group[3], t0 = s0, t1 = s1, t2 = s2, t3 = s3;
    const int8_t *w = (const int8_t *)(group + 4), *end = a + n;
    if (n & 1) {
        MK_MAT_X4_STEP2(0);
        ++a, ++b, w += 4;
    }
    for (; a != end; a += 2, b += 2, w += 8) {
        MK_MAT_X4_STEP2(0);
        MK_MAT_X4_NEXT;
        MK_MAT_X4_STEP2(1);
    }
    sums[0] = s0, sums[1] = s1, sums[2] = s2, sums[3] = s3, sums[4] = t0, sums[5] = t1, sums[6] = t2, sums[7] = t3;
}
#undef MK_MAT_X4_STEP2

#define MK_MAT_X4_STEP1(k)                                                                          \
    do {                                                                                            \
        const int32_t u = a[k];                                                                     \
        s0 += u * w[4 * k], s1 += u * w[4 * k + 1], s2 += u * w[4 * k + 2], s3 += u * w[4 * k + 3]; \
    } while (0)

/* The same for one pixel. */
#if MK_MAT_X4_PIXELS == 1
#define MK_MAT_X4_TAP(at, sum) "ldrb r4, [r1, #" at "]\n sxtb r4, r4\n muls r4, r3\n add " sum ", r4\n"
#define MK_MAT_X4_STEP(at, a, b, c, d)                                                                   \
    "ldrb r3, [r2, #" at "]\n sxtb r3, r3\n" MK_MAT_X4_TAP(a, "r8") MK_MAT_X4_TAP(b, "r9")               \
        MK_MAT_X4_TAP(c, "r10") MK_MAT_X4_TAP(d, "r11")
__attribute__((naked, noinline, unused)) static void mk_mat_x4_sums1(
    __attribute__((unused)) int32_t sums[4], __attribute__((unused)) const int32_t *group,
    __attribute__((unused)) const int8_t *a, __attribute__((unused)) int n) {
    __asm__(".syntax unified\n push {r4, r5, r6, r7, lr}\n mov r4, r8\n mov r5, r9\n mov r6, r10\n mov r7, r11\n"
            "push {r4, r5, r6, r7}\n ldmia r1!, {r4, r5, r6, r7}\n mov r8, r4\n mov r9, r5\n mov r10, r6\n mov r11, r7\n"
            "movs r4, #3\n ands r4, r3\n subs r3, r3, r4\n adds r6, r2, r3\n adds r7, r6, r4\n b 2f\n"
            "1:\n" MK_MAT_X4_STEP("0", "0", "1", "2", "3") MK_MAT_X4_STEP("1", "4", "5", "6", "7")
                MK_MAT_X4_STEP("2", "8", "9", "10", "11") MK_MAT_X4_STEP("3", "12", "13", "14", "15")
            "adds r2, #4\n adds r1, #16\n 2: cmp r2, r6\n bne 1b\n b 4f\n"
            "3:\n" MK_MAT_X4_STEP("0", "0", "1", "2", "3") "adds r2, #1\n adds r1, #4\n 4: cmp r2, r7\n bne 3b\n"
            "mov r4, r8\n mov r5, r9\n mov r6, r10\n mov r7, r11\n stmia r0!, {r4, r5, r6, r7}\n pop {r4, r5, r6, r7}\n"
            "mov r8, r4\n mov r9, r5\n mov r10, r6\n mov r11, r7\n pop {r4, r5, r6, r7, pc}\n");
}
#else
MK_SHARED void mk_mat_x4_sums1(int32_t sums[4], const int32_t *group, const int8_t *a, int n) {
    int32_t s0 = group[0], s1 = group[1], s2 = group[2], s3 = group[3];
    const int8_t *w = (const int8_t *)(group + 4), *end = a + n;
    if (n & 1) {
        MK_MAT_X4_STEP1(0);
        ++a, w += 4;
    }
    for (; a != end; a += 2, w += 8) {
        MK_MAT_X4_STEP1(0);
        MK_MAT_X4_NEXT;
        MK_MAT_X4_STEP1(1);
    }
    sums[0] = s0, sums[1] = s1, sums[2] = s2, sums[3] = s3;
}
#endif
#undef MK_MAT_X4_STEP1
#undef MK_MAT_X4_NEXT

/* One pixel or two: x and the one a step behind it. */
static inline void mk_mat_x4_pixels(const struct mk_mat_x4 *p, const int8_t *x, int8_t *out, int pixels) {
    const int32_t *group = p->stream;
    for (int o = 0; o < p->out_ch; o += 4, group += p->inputs + 9) {
        const int32_t *mult = group + p->inputs + 4;
        const int8_t *exponent = (const int8_t *)(mult + 4);
        int32_t sums[8];
        if (pixels == 2)
            mk_mat_x4_sums2(sums, group, x, x + p->step, p->inputs);
        else
            mk_mat_x4_sums1(sums, group, x, p->inputs);
        for (int c = 0; c < mk_min(4, p->out_ch - o); ++c) {
            out[o + c] = mk_mat_x4_output(p, sums[c], mult[c], exponent[c]);
            if (pixels == 2) out[o + c + p->out_ch] = mk_mat_x4_output(p, sums[4 + c], mult[c], exponent[c]);
        }
    }
}

/* The outputs of `pixels` pixels, one behind the other. */
MK_SHARED void mk_mat_x4(const struct mk_mat_x4 *p, const int8_t *x, int8_t *out, int pixels) {
    for (; pixels >= MK_MAT_X4_PIXELS; pixels -= MK_MAT_X4_PIXELS) {
        mk_mat_x4_pixels(p, x, out, MK_MAT_X4_PIXELS);
        x += MK_MAT_X4_PIXELS * p->step, out += MK_MAT_X4_PIXELS * p->out_ch;
    }
    if (pixels) mk_mat_x4_pixels(p, x, out, 1);
}
