/* The product of a matrix of weights and pixels, with its outputs, in C for cores with 31 registers: two pixels x four output
 * channels at a time, so that six loads serve eight products. The stream has for each four channels
 *
 *     bias (4 int32), weights (of each input a word: 4 int8), mult (4 int32), exponent (4 int8)
 *     y = clamp(round(round(sum * mult / 2^31) / 2^exponent) + offset), 1 <= exponent, halves away from zero
 *
 * where the input's zero point is in the bias.
 */
struct mk_mat_rv {
    const int32_t *stream;
    int32_t inputs, out_ch, offset, act_min, act_max, step; /* bytes from a pixel to the next */
};

static inline int8_t mk_mat_rv_output(const struct mk_mat_rv *p, int32_t sum, int32_t mult, int exponent) {
    const int64_t twice = (int64_t)(2 * sum) * mult; /* |sum| < 2^30 */
    int32_t high = (int32_t)(twice >> 32) + (int32_t)((uint32_t)twice >> 31);
    high = (((high + (high >> 31)) >> (exponent - 1)) + 1) >> 1;
    return (int8_t)mk_clamp(high + p->offset, p->act_min, p->act_max);
}

/* No load is moved before this: loads of several steps at once would spill. */
#define MK_MAT_RV_NEXT __asm__ volatile("" ::: "memory")
#define MK_MAT_RV_STEP2(k)                                                                    \
    do {                                                                                      \
        const int32_t u = a[k], v = b[k];                                                     \
        const int32_t w0 = w[4 * k], w1 = w[4 * k + 1], w2 = w[4 * k + 2], w3 = w[4 * k + 3]; \
        s0 += u * w0, s1 += u * w1, s2 += u * w2, s3 += u * w3;                               \
        t0 += v * w0, t1 += v * w1, t2 += v * w2, t3 += v * w3;                               \
    } while (0)

/* The sums of a group for two pixels of `n` inputs. Not inlined: inside the loop over groups it would run short of registers. */
MK_SHARED void mk_mat_rv_sums2(int32_t sums[8], const int32_t *group, const int8_t *a, const int8_t *b, int n) {
    int32_t s0 = group[0], s1 = group[1], s2 = group[2], s3 = group[3], t0 = s0, t1 = s1, t2 = s2, t3 = s3;
    const int8_t *w = (const int8_t *)(group + 4), *end = a + n;
    if (n & 1) {
        MK_MAT_RV_STEP2(0);
        ++a, ++b, w += 4;
    }
    for (; a != end; a += 2, b += 2, w += 8) {
        MK_MAT_RV_STEP2(0);
        MK_MAT_RV_NEXT;
        MK_MAT_RV_STEP2(1);
    }
    sums[0] = s0, sums[1] = s1, sums[2] = s2, sums[3] = s3, sums[4] = t0, sums[5] = t1, sums[6] = t2, sums[7] = t3;
}
#undef MK_MAT_RV_STEP2

#define MK_MAT_RV_STEP1(k)                                                                          \
    do {                                                                                            \
        const int32_t u = a[k];                                                                     \
        s0 += u * w[4 * k], s1 += u * w[4 * k + 1], s2 += u * w[4 * k + 2], s3 += u * w[4 * k + 3]; \
    } while (0)

/* The same for one pixel. */
MK_SHARED void mk_mat_rv_sums1(int32_t sums[4], const int32_t *group, const int8_t *a, int n) {
    int32_t s0 = group[0], s1 = group[1], s2 = group[2], s3 = group[3];
    const int8_t *w = (const int8_t *)(group + 4), *end = a + n;
    if (n & 1) {
        MK_MAT_RV_STEP1(0);
        ++a, w += 4;
    }
    for (; a != end; a += 2, w += 8) {
        MK_MAT_RV_STEP1(0);
        MK_MAT_RV_NEXT;
        MK_MAT_RV_STEP1(1);
    }
    sums[0] = s0, sums[1] = s1, sums[2] = s2, sums[3] = s3;
}
#undef MK_MAT_RV_STEP1
#undef MK_MAT_RV_NEXT

/* One pixel or two: x and the one a step behind it. */
static inline void mk_mat_rv_pixels(const struct mk_mat_rv *p, const int8_t *x, int8_t *out, int pixels) {
    const int32_t *group = p->stream;
    for (int o = 0; o < p->out_ch; o += 4, group += p->inputs + 9) {
        const int32_t *mult = group + p->inputs + 4;
        const int8_t *exponent = (const int8_t *)(mult + 4);
        int32_t sums[8];
        if (pixels == 2)
            mk_mat_rv_sums2(sums, group, x, x + p->step, p->inputs);
        else
            mk_mat_rv_sums1(sums, group, x, p->inputs);
        for (int c = 0; c < mk_min(4, p->out_ch - o); ++c) {
            out[o + c] = mk_mat_rv_output(p, sums[c], mult[c], exponent[c]);
            if (pixels == 2) out[o + c + p->out_ch] = mk_mat_rv_output(p, sums[4 + c], mult[c], exponent[c]);
        }
    }
}

/* The outputs of `pixels` pixels, one behind the other. */
MK_SHARED void mk_mat_rv(const struct mk_mat_rv *p, const int8_t *x, int8_t *out, int pixels) {
    for (; pixels > 1; pixels -= 2, x += 2 * p->step, out += 2 * p->out_ch) mk_mat_rv_pixels(p, x, out, 2);
    if (pixels) mk_mat_rv_pixels(p, x, out, 1);
}
