/* Outputs of int8 layers on cores without SIMD, of sums that start with a bias. Fitted (ops/fitting_floor.py):
 *
 *     y = clamp((floor(sum * mult / 2^low) + addend) >> shift)
 *
 * or for any output, halves away from zero, |sum| < 2^30, 1 <= shift:
 *
 *     y = clamp(round(round(sum * mult / 2^31) / 2^shift) + addend)
 */
#if defined(__thumb__) && !defined(__thumb2__)
#define MK_V6M 1 /* no product of 64 bits, eight registers for most instructions */
#define MK_NAKED __attribute__((naked, noinline, unused)) static
#else
#define MK_V6M 0
#endif

/* In a loop over outputs a call spills what the loop keeps in registers: a compiler for size would make one. */
#if defined(__OPTIMIZE_SIZE__)
#define MK_INLINE __attribute__((always_inline)) static inline
#else
#define MK_INLINE static inline
#endif

struct mk_out_x4 {
    int32_t mult, addend, shift, act_min, act_max;
};

/* floor(sum * mult / 2^low), which an int32 holds; 0 <= mult < 2^(2 * low - 1), |sum| < 2^(31 - low), low < 16. */
MK_INLINE int32_t mk_out_x4_floor(int32_t sum, int32_t mult, int low) {
#if MK_V6M
    return sum * (mult >> low) + ((sum * (mult & ((1 << low) - 1))) >> low);
#else
    return (int32_t)(((int64_t)(sum * (1 << low)) * (mult * (1 << (32 - 2 * low)))) >> 32);
#endif
}

/* round(a * mult / 2^32), halves up, of an even a; 0 <= mult. */
static inline int32_t mk_out_x4_round(int32_t a, int32_t mult) {
#if MK_V6M
    const int32_t a1 = a >> 16, a0 = a & 0xFFFF, m1 = mult >> 16, m0 = mult & 0xFFFF;
    const int32_t low = a1 * m0 + (int32_t)((uint32_t)a0 * (uint32_t)m0 >> 16), middle = a0 * m1 + (low & 0xFFFF);
    return a1 * m1 + (low >> 16) + ((middle + (1 << 15)) >> 16);
#else
    const int64_t product = (int64_t)a * mult;
    return (int32_t)(product >> 32) + (int32_t)((uint32_t)product >> 31);
#endif
}

MK_INLINE int8_t mk_out_x4_fitted(const struct mk_out_x4 *q, int32_t sum, int low) {
    return (int8_t)mk_clamp((mk_out_x4_floor(sum, q->mult, low) + q->addend) >> q->shift, q->act_min, q->act_max);
}

static inline int8_t mk_out_x4_exact(const struct mk_out_x4 *q, int32_t sum) {
    const int32_t y = mk_out_x4_round(2 * sum, q->mult);
    return (int8_t)mk_clamp(((((y + (y >> 31)) >> (q->shift - 1)) + 1) >> 1) + q->addend, q->act_min, q->act_max);
}

/* Either; `low` is 0 for any output. */
MK_INLINE int8_t mk_out_x4(const struct mk_out_x4 *q, int32_t sum, int low) {
    return low ? mk_out_x4_fitted(q, sum, low) : mk_out_x4_exact(q, sum);
}
