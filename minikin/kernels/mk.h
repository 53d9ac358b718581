/* mk.h: what every minikin kernel shares: types, rows, rounding.
 *
 * C99, no heap, no libc. The integer arithmetic is gemmlowp's (fixedpoint.h) and TFLite's (common.h), bit for bit;
 * its twin in Python is minikin/fixedpoint.py. Right shifts of negative numbers are arithmetic, as on every compiler
 * for these boards.
 */
#ifndef MK_H
#define MK_H

#include <stddef.h>
#include <stdint.h>

static inline int32_t mk_min(int32_t a, int32_t b) { return a < b ? a : b; }
static inline int32_t mk_max(int32_t a, int32_t b) { return a > b ? a : b; }
static inline int32_t mk_clamp(int32_t x, int32_t lo, int32_t hi) { return mk_min(mk_max(x, lo), hi); }
static inline float mk_clamp_f32(float x, float lo, float hi) { return x < lo ? lo : x > hi ? hi : x; }

/* No bound on a float activation. */
#define MK_INF (__builtin_inff())

/* A layer stays a function of its own, so that a debugger, a profiler and a stack trace can name it. */
#define MK_LAYER __attribute__((noinline))

/* A large kernel is one function for all layers that it computes: its loops gain nothing from the layer's constants. */
#define MK_KERNEL __attribute__((noinline))

/* Code that seldom runs: as small as the compiler can make it. */
#if defined(__clang__)
#define MK_SMALL __attribute__((minsize))
#else
#define MK_SMALL __attribute__((cold))
#endif

/* C around assembly, which does the work: as small as can be where size counts. */
#if defined(__clang__) && defined(__OPTIMIZE_SIZE__)
#define MK_DRIVER __attribute__((minsize))
#else
#define MK_DRIVER
#endif

/* One copy for all callers: small code, for what is called a few times a row. */
#define MK_SHARED __attribute__((noinline, unused)) static

/* A parameter that a function may not need. */
#define MK_ARG __attribute__((unused))

/* Fill rows[0..count) with the addresses of rows first, first+1, ... of a frame of `height` rows, one behind the other. A row
 * outside the frame is a null pointer: padding. */
MK_SHARED void mk_rows_s8(const int8_t **rows, int count, const int8_t *base, int row_bytes, int height, int first) {
    for (int i = 0; i < count; ++i) {
        int y = first + i;
        rows[i] = y < 0 || y >= height ? NULL : base + y * row_bytes;
    }
}

MK_SHARED void mk_rows_f32(const float **rows, int count, const float *base, int row_elems, int height, int first) {
    for (int i = 0; i < count; ++i) {
        int y = first + i;
        rows[i] = y < 0 || y >= height ? NULL : base + y * row_elems;
    }
}

/* The same where row y lies at base + unit * at[y]. */
MK_SHARED void mk_rows_at_s8(const int8_t **rows, int count, const int8_t *base, const uint16_t *at, int unit,
                                 int height, int first) {
    for (int i = 0; i < count; ++i) {
        int y = first + i;
        rows[i] = y < 0 || y >= height ? NULL : base + unit * at[y];
    }
}

MK_SHARED void mk_rows_at_f32(const float **rows, int count, const float *base, const uint16_t *at, int unit,
                                  int height, int first) {
    for (int i = 0; i < count; ++i) {
        int y = first + i;
        rows[i] = y < 0 || y >= height ? NULL : base + unit * at[y];
    }
}

/* Where the rows of a tensor lie: row y at base + step * at[y], or at base + step * y where there is no such table. */
struct mk_tensor_s8 {
    int8_t *base;
    const uint16_t *at;
    uint16_t step, rows;
};

struct mk_tensor_f32 {
    float *base;
    const uint16_t *at;
    uint16_t step, rows;
};

/* A layer whose calls are alike: call n makes the rows from n * rows on, out of `count` rows of each input from row
 * n * step + first on. Kernels, their parameters and tensors are numbered. */
struct mk_layer {
    uint8_t kernel, params, in, in1, out;
    uint8_t rows, count, step;
    int8_t first;
};

static inline int8_t *mk_row_of_s8(const struct mk_tensor_s8 *x, int y) {
    return x->base + x->step * (x->at ? x->at[y] : y);
}

static inline float *mk_row_of_f32(const struct mk_tensor_f32 *x, int y) {
    return x->base + x->step * (x->at ? x->at[y] : y);
}

/* The addresses of rows first, first + 1, ...; null outside the frame. */
MK_SHARED void mk_rows_of_s8(const int8_t **rows, int count, const struct mk_tensor_s8 *x, int first) {
    const struct mk_tensor_s8 own = *x; /* not what a store through `rows` might change */
    for (int y = first; y < first + count; ++y) *rows++ = (unsigned)y >= own.rows ? NULL : mk_row_of_s8(&own, y);
}

MK_SHARED void mk_rows_of_f32(const float **rows, int count, const struct mk_tensor_f32 *x, int first) {
    const struct mk_tensor_f32 own = *x;
    for (int y = first; y < first + count; ++y) *rows++ = (unsigned)y >= own.rows ? NULL : mk_row_of_f32(&own, y);
}

/* A ring holds `kept` rows, each new one where the oldest is; `next` is the place of the next. */

/* The place of the row that is `rows` before the next one; 0 <= rows <= kept. */
static inline int mk_back(int next, int rows, int kept) { return next < rows ? next - rows + kept : next - rows; }

/* The place behind another. */
static inline int mk_around(int at, int kept) { return at + 1 < kept ? at + 1 : 0; }

/* A parameter that a function may not need. */
#define MK_ARG __attribute__((unused))

/* Fill rows[0..count) with the addresses of the rows from place `at` on, around the ring. */
static inline void mk_rows_ring_s8(const int8_t **rows, int count, const int8_t *base, int row_bytes, int kept, int at) {
    for (int i = 0; i < count; ++i, at = mk_around(at, kept)) rows[i] = base + at * row_bytes;
}

static inline void mk_rows_ring_f32(const float **rows, int count, const float *base, int row_elems, int kept, int at) {
    for (int i = 0; i < count; ++i, at = mk_around(at, kept)) rows[i] = base + at * row_elems;
}

/* round(a * b / 2^31), halves up: what gemmlowp's sign-dependent nudge and truncating division come to where not both are
 * INT32_MIN. */
MK_SHARED int32_t mk_high_mul(int32_t a, int32_t b) {
    return (int32_t)(((int64_t)a * b + ((int64_t)1 << 30)) >> 31);
}

/* round(x / 2^exponent), halves away from zero; 0 <= exponent <= 31. */
static inline int32_t mk_shift_right(int32_t x, int exponent) {
    int32_t mask = (int32_t)(((uint32_t)1 << exponent) - 1);
    int32_t threshold = (mask >> 1) + (x < 0);
    return (x >> exponent) + ((x & mask) > threshold);
}

/* acc * mult * 2^(shift - 31) with two roundings; mult >= 0 and -31 <= shift <= 30 from quantize_multiplier. The second
 * is mk_shift_right with fewer instructions: the high product is never INT32_MIN, so that one may be taken from it. */
static inline int32_t mk_requantize(int32_t acc, int32_t mult, int shift) {
    int32_t left = (int32_t)((uint32_t)acc << (shift > 0 ? shift : 0));
    int32_t high = (int32_t)(((int64_t)left * mult + ((int64_t)1 << 30)) >> 31);
    return shift < 0 ? (((high + (high >> 31)) >> ~shift) + 1) >> 1 : high;
}

/* acc * mult * 2^(shift - 31) rounded once, halves up. */
static inline int32_t mk_requantize_once(int32_t acc, int32_t mult, int shift) {
    int total = 31 - shift;
    return (int32_t)(((int64_t)acc * mult + ((int64_t)1 << (total - 1))) >> total);
}

/* a + b as an int32 register holds it. */
static inline int32_t mk_add_wrap(int32_t a, int32_t b) { return (int32_t)((uint32_t)a + (uint32_t)b); }

/* Offset of the index-th element of a walk over the first `axes` axes of dims, under these strides. */
static inline int32_t mk_strided(int32_t index, int32_t axes, const int32_t *dims, const int32_t *strides) {
    int32_t offset = 0;
    for (int32_t d = axes - 1; d >= 0; --d) {
        offset += index % dims[d] * strides[d];
        index /= dims[d];
    }
    return offset;
}

/* Write row[first..first + count) at out and give the place after it; a null row writes nothing. */
static inline int8_t *mk_append_s8(int8_t *out, const int8_t *row, int32_t first, int32_t count) {
    if (!row) return out;
    for (int32_t i = 0; i < count; ++i) *out++ = row[first + i];
    return out;
}

static inline float *mk_append_f32(float *out, const float *row, int32_t first, int32_t count) {
    if (!row) return out;
    for (int32_t i = 0; i < count; ++i) *out++ = row[first + i];
    return out;
}

/* Write `count` copies of `value` at out and give the place after them. */
static inline int8_t *mk_fill_s8(int8_t *out, int8_t value, int32_t count) {
    while (count-- > 0) *out++ = value;
    return out;
}

static inline float *mk_fill_f32(float *out, float value, int32_t count) {
    while (count-- > 0) *out++ = value;
    return out;
}

/* exp(a) in Q0.31 for -32 < a <= 0 in Q5.26: a Taylor series around -1/8 on [-1/4, 0), then a factor exp(-2^e) for each
 * bit of the rest. gemmlowp's exp_on_negative_values; twin: exp_on_negative in ops/transcendental.py. */
MK_SMALL MK_SHARED int32_t mk_exp_q5(int32_t a) {
    static const int32_t factors[] = {1672461947, 1302514674, 790015084, 290630308, 39332535, 720401, 242};
    const int32_t quarter = 1 << 24;
    if (a == 0) return INT32_MAX;
    int32_t fraction = (a & (quarter - 1)) - quarter;
    int32_t rest = fraction - a;
    int32_t x = fraction * 32 + (1 << 28);
    int32_t x2 = mk_high_mul(x, x);
    int32_t x3 = mk_high_mul(x2, x);
    int32_t x4 = mk_high_mul(x2, x2);
    int32_t tail = mk_high_mul(mk_shift_right(x4, 2) + x3, 715827883) + x2;
    int32_t y = 1895147668 + mk_high_mul(x + mk_shift_right(tail, 1), 1895147668);
    for (int e = 0; e < 7; ++e)
        if (rest & (quarter << e)) y = mk_high_mul(y, factors[e]);
    return y;
}

/* 1 / (1 + a) in Q0.31 for a in [0, 1) in Q0.31: Newton's division in Q2.29 from 48/17 - 32/17 * d, d = (1 + a) / 2.
 * gemmlowp's one_over_one_plus_x_for_x_in_0_1; no step can overflow. */
static inline int32_t mk_one_over_one_plus(int32_t a) {
    int32_t half = (int32_t)(((uint32_t)a + (uint32_t)INT32_MAX + 1u) >> 1);
    int32_t x = 1515870810 + mk_high_mul(half, -1010580540);
    for (int i = 0; i < 3; ++i) x += mk_high_mul(x, (1 << 29) - mk_high_mul(half, x)) * 4;
    return x > INT32_MAX / 2 ? INT32_MAX : x * 2;
}

/* exp(x) to 1e-7 relative for -87 < x <= 88; 0 below, the bound's value above, NaN for NaN.
 * Cephes' expf: 2^n * polynomial(x - n * ln 2). */
static inline float mk_expf(float x) {
    union {
        uint32_t bits;
        float value;
    } power;
    if (!(x > -87.0f)) return x <= -87.0f ? 0.0f : x;
    if (x > 88.0f) x = 88.0f;
    float scaled = x * 1.44269504088896341f;
    int32_t n = (int32_t)(scaled < 0.0f ? scaled - 0.5f : scaled + 0.5f);
    float r = x - (float)n * 0.693359375f;
    r += (float)n * 2.12194440e-4f;
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    power.bits = (uint32_t)(n + 127) << 23;
    return (p * r * r + r + 1.0f) * power.value;
}

/* The int8 output of a scaled accumulator; the sum wraps, as the reference's does. */
static inline int8_t mk_offset_clamp(int32_t scaled, int32_t offset, int32_t lo, int32_t hi) {
    return (int8_t)mk_clamp((int32_t)((uint32_t)scaled + (uint32_t)offset), lo, hi);
}

/* acc[i] += sum_k (x[k] + offset) * w[i * stride + k] for four rows of weights: each input is loaded once for all of
 * them. Unsigned, so that what overflows wraps. Not inlined: inside a kernel's loops it would run short of registers. */
__attribute__((noinline, unused)) static void mk_dot4_s8(uint32_t acc[4], const int8_t *x, const int8_t *w, int n,
                                                         int stride, int32_t offset) {
    const int8_t *w1 = w + stride, *w2 = w1 + stride, *w3 = w2 + stride;
    uint32_t a0 = acc[0], a1 = acc[1], a2 = acc[2], a3 = acc[3];
    for (const int8_t *end = x + n; x != end;) {
        int32_t value = *x++ + offset;
        a0 += (uint32_t)(value * *w++);
        a1 += (uint32_t)(value * *w1++);
        a2 += (uint32_t)(value * *w2++);
        a3 += (uint32_t)(value * *w3++);
    }
    acc[0] = a0, acc[1] = a1, acc[2] = a2, acc[3] = a3;
}

/* The nearest integer, halves away from zero; beyond +-512 that bound, and -512 for NaN. */
static inline int32_t mk_round_f32(float x) {
    x = x > -512.0f ? x < 512.0f ? x : 512.0f : -512.0f;
    int32_t whole = (int32_t)x;
    float rest = x - (float)whole;
    return whole + (rest >= 0.5f) - (rest <= -0.5f);
}

/* How a frame of floats is quantized: x = scale * (code - zero). */
struct mk_frame {
    float scale;
    int32_t zero;
};

/* Scale and zero point of the range lo <= 0 <= hi: the zero point from that end where it is rounded less. TFLite's
 * AsymmetricQuantizeFloats, in double as there. */
static inline struct mk_frame mk_frame_range(double lo, double hi) {
    double scale = (hi - lo) / 255.0, below = lo / scale, above = hi / scale;
    double zero = 128.0 - below < 127.0 + above ? -128.0 - below : 127.0 - above;
    zero = zero > -128.0 ? zero < 127.0 ? zero : 127.0 : -128.0;
    int32_t whole = (int32_t)zero;
    double rest = zero - (double)whole;
    struct mk_frame frame = {(float)scale, whole + (rest >= 0.5) - (rest <= -0.5)};
    return frame;
}

/* Quantize n floats by their own range: symmetric to [-127, 127], or asymmetric to [-128, 127]; NaN is the least code.
 * Twin: quantized_frames in ops/hybrid.py. */
__attribute__((unused)) static struct mk_frame mk_quantize_frame(const float *x, int n, int asymmetric, int8_t *codes) {
    struct mk_frame frame = {1.0f, 0};
    float lo = 0.0f, hi = 0.0f, inverse = 0.0f; /* a frame of zeros has the codes 0 */
    for (int i = 0; i < n; ++i) {
        if (x[i] < lo) lo = x[i];
        if (x[i] > hi) hi = x[i];
    }
    if (lo < hi && asymmetric) {
        frame = mk_frame_range(lo, hi);
        inverse = 1.0f / frame.scale;
    } else if (lo < hi) {
        hi = -lo > hi ? -lo : hi;
        frame.scale = hi / 127.0f;
        inverse = 127.0f / hi;
    }
    for (int i = 0; i < n; ++i)
        codes[i] = (int8_t)mk_clamp(mk_round_f32((float)frame.zero + x[i] * inverse), asymmetric ? -128 : -127, 127);
    return frame;
}

/* A window whose taps lie at first, first + step, ... in a line of `size` pixels: the taps [lo, hi) are inside it. */
static inline int mk_tap_lo(int first, int step, int taps) {
    int lo = 0;
    while (lo < taps && first + lo * step < 0) ++lo;
    return lo;
}

static inline int mk_tap_hi(int first, int step, int taps, int size) {
    int hi = taps;
    while (hi > 0 && first + (hi - 1) * step >= size) --hi;
    return hi;
}

/* sums[c] += the row's inputs of channel c; `first` starts the sums at `start`. */
static inline void mk_sum_row_s8(int32_t *sums, const int8_t *in, int width, int channels, int32_t start, int first) {
    for (int c = 0; c < channels; ++c) {
        int32_t sum = first ? start : sums[c];
        const int8_t *x = in + c;
        for (int i = width; i > 0; --i, x += channels) sum += *x;
        sums[c] = sum;
    }
}

static inline void mk_sum_row_f32(float *sums, const float *in, int width, int channels, int first) {
    for (int c = 0; c < channels; ++c) {
        float sum = first ? 0.0f : sums[c];
        const float *x = in + c;
        for (int i = width; i > 0; --i, x += channels) sum += *x;
        sums[c] = sum;
    }
}

/* With MK_TRACE the host or the emulator sees every row as it is made: `layer` counts the steps of NAME_run from 0. */
#ifdef MK_TRACE
void mk_trace(int layer, int row, const int8_t *data, int bytes);
#else
static inline void mk_trace(int layer, int row, const int8_t *data, int bytes) {
    (void)layer, (void)row, (void)data, (void)bytes;
}
#endif

#endif
