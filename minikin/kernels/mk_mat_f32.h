/* Sums of products in float32 for eight output channels at a time: sums[c] += x[k] * w[k][c], k in order.
 *
 * Every product is rounded before it is added, so that each core and the host give the same bytes. On an FPU that is VMUL
 * and VADD, of one cycle each on a Cortex-M4, where a multiply-accumulate takes three. Eight weights come by one VLDM.
 */
#if defined(__thumb2__) && defined(__ARM_FP)
#if __ARM_FP & 4
#define MK_FPU 1
#endif
#endif

#define MK_LANES 8 /* output channels of a block; as LANES in ops/packing_f32.py */

/* The taps of an output pixel, where eight channels at a time are summed: of each input row `taps` taps, whose inputs begin
 * `offset` behind the row's (an argument of the functions), n products each, k in order. Everything in bytes but rows, taps
 * and n; the assembly below knows the places of the fields. */
struct mk_window_f32 {
    const float *const *in; /* rows, null outside the frame */
    int32_t rows, in_step;  /* in_step: from one row's pointer to the next */
    int32_t before, after;  /* weights of taps that lie left and right of the frame */
    int32_t distance;       /* from a pixel's inputs to those of the next */
    int32_t taps, n;
    int32_t skip; /* from the end of a tap's inputs to the next tap's */
    int32_t row;  /* weights of a row of taps */
    const float *zeros;
    int32_t clamps; /* 1: act_min is finite, 2: act_max is */
    float act_min, act_max;
    int32_t out_distance; /* from a pixel's outputs to those of the next */
};

static const float mk_zeros_f32[2 * MK_LANES];

#ifdef MK_HALF
/* Weights: floats, or where `half` is not null halves. */
typedef struct {
    const float *weight;
    const uint16_t *half;
} mk_weights_f32;

static inline mk_weights_f32 mk_weights_of_f32(const float *weight, const uint16_t *half) {
    const mk_weights_f32 w = {weight, half};
    return w;
}

/* Bytes of one. */
static inline int mk_weight_bytes_f32(mk_weights_f32 w) { return w.half ? 2 : 4; }

/* Those behind the first n. */
static inline mk_weights_f32 mk_behind_f32(mk_weights_f32 w, int n) {
    if (w.half)
        w.half += n;
    else
        w.weight += n;
    return w;
}

/* The first. */
static inline float mk_first_f32(mk_weights_f32 w) { return w.half ? mk_half_f32(*w.half) : *w.weight; }
#else
typedef const float *mk_weights_f32;
static inline mk_weights_f32 mk_weights_of_f32(const float *weight, MK_ARG const uint16_t *half) { return weight; }
static inline int mk_weight_bytes_f32(MK_ARG mk_weights_f32 w) { return 4; }
static inline mk_weights_f32 mk_behind_f32(mk_weights_f32 w, int n) { return w + n; }
static inline float mk_first_f32(mk_weights_f32 w) { return *w; }
#endif

/* The sum of one channel, whose weights lie `lanes` apart. */
MK_SHARED float mk_sum_f32(const struct mk_window_f32 *at, mk_weights_f32 w, int offset, int lanes) {
    const int scale = mk_weight_bytes_f32(w) * MK_LANES / lanes; /* bytes of weights of eight channels for one of this one */
    float sum = 0.0f;
    for (int ky = 0; ky < at->rows; ++ky, w = mk_behind_f32(w, at->row / scale)) {
        const float *row = at->in[ky * (at->in_step / (int)sizeof at->in[0])];
        mk_weights_f32 tap = mk_behind_f32(w, at->before / scale);
        if (!row) continue;
        const float *x = row + offset / 4;
        for (int t = at->taps; t > 0; --t, x += at->skip / 4)
            for (int k = at->n; k > 0; --k, ++x, tap = mk_behind_f32(tap, lanes)) sum += *x * mk_first_f32(tap);
    }
    return sum;
}

static inline int mk_clamps_f32(float lo, float hi) { return (lo > -MK_INF) | (hi < MK_INF) << 1; }

/* Outputs of eight channels, `bias` theirs. mk_mat1_f32: weights [tap][n][8]. mk_mat2_f32: the same for two pixels.
 * mk_taps_f32: each of eight channels has its input, n is 1; weights [tap][8]. */
#ifdef MK_FPU

/* Eight sums, from s<a> on, of one pixel: x in a register, weights in w0.. w7; t0.. t3 are free. */
#define MK_MAC4_F32(x, a0, a1, a2, a3, w0, w1, w2, w3, t0, t1, t2, t3)                                            \
    "vmul.f32 " t0 ", " w0 ", " x "\n vmul.f32 " t1 ", " w1 ", " x "\n"                                           \
    "vmul.f32 " t2 ", " w2 ", " x "\n vmul.f32 " t3 ", " w3 ", " x "\n"                                           \
    "vadd.f32 " a0 ", " a0 ", " t0 "\n vadd.f32 " a1 ", " a1 ", " t1 "\n"                                         \
    "vadd.f32 " a2 ", " a2 ", " t2 "\n vadd.f32 " a3 ", " a3 ", " t3 "\n"

/* Eight weights, to s16-s23 or s8-s15. */
#define MK_LOAD16_F32 "vldmia r2!, {s16-s23}\n"
#define MK_LOAD8_F32 "vldmia r2!, {s8-s15}\n"

#define MK_MAT2_STEP_F32(LOAD, x0, x1)                                                                            \
    LOAD                                                                                                          \
    MK_MAC4_F32(x0, "s0", "s1", "s2", "s3", "s16", "s17", "s18", "s19", "s28", "s29", "s30", "s31")               \
    MK_MAC4_F32(x0, "s4", "s5", "s6", "s7", "s20", "s21", "s22", "s23", "s28", "s29", "s30", "s31")               \
    MK_MAC4_F32(x1, "s8", "s9", "s10", "s11", "s16", "s17", "s18", "s19", "s16", "s17", "s18", "s19")             \
    MK_MAC4_F32(x1, "s12", "s13", "s14", "s15", "s20", "s21", "s22", "s23", "s20", "s21", "s22", "s23")

#define MK_MAT1_STEP_F32(LOAD, x)                                                                                 \
    LOAD                                                                                                          \
    MK_MAC4_F32(x, "s0", "s1", "s2", "s3", "s8", "s9", "s10", "s11", "s8", "s9", "s10", "s11")                    \
    MK_MAC4_F32(x, "s4", "s5", "s6", "s7", "s12", "s13", "s14", "s15", "s12", "s13", "s14", "s15")

/* r7 rows' pointers, r8 how many, r9 bytes to the next, r10 weights before the first tap, r11 behind the last, lr distance;
 * r4 inputs, r2 weights, r6 taps left, r12 products left. A row that is padding has its weights skipped. */
#define MK_WINDOW_ENTER_F32(SUMS)                                                                                 \
    "push {r4-r11, lr}\n vpush {s16-s31}\n ldr r12, [r1, #40]\n vldmia r12, {" SUMS "}\n"                          \
    "ldmia r1, {r7-r11, lr}\n"                                                                                    \
    "5: subs r8, r8, #1\n blo 9f\n ldr r4, [r7]\n add r7, r7, r9\n cmp r4, #0\n beq 8f\n"                          \
    "add r4, r4, r3\n add r2, r2, r10\n ldr r6, [r1, #24]\n"
#define MK_WINDOW_NEXT_F32                                                                                        \
    "subs r6, r6, #1\n bne 7b\n add r2, r2, r11\n b 5b\n"                                                          \
    "8: ldr r12, [r1, #36]\n add r2, r2, r12\n b 5b\n"                                                             \
    "9: ldr r12, [sp, #100]\n vldmia r12, {s16-s23}\n ldr r12, [r1, #44]\n add r3, r1, #48\n vldmia r3, {s24, s25}\n"
#define MK_WINDOW_LEAVE_F32 "vpop {s16-s31}\n pop {r4-r11, pc}\n"

#define MK_ADD8_F32(a0, a1, a2, a3, a4, a5, a6, a7)                                                               \
    "vadd.f32 " a0 ", " a0 ", s16\n vadd.f32 " a1 ", " a1 ", s17\n vadd.f32 " a2 ", " a2 ", s18\n"                 \
    "vadd.f32 " a3 ", " a3 ", s19\n vadd.f32 " a4 ", " a4 ", s20\n vadd.f32 " a5 ", " a5 ", s21\n"                 \
    "vadd.f32 " a6 ", " a6 ", s22\n vadd.f32 " a7 ", " a7 ", s23\n"
/* Where a sum is less than the bound ("mi"), or greater ("gt"), it becomes the bound; a NaN stays. */
#define MK_BOUND_F32(a, bound, when)                                                                              \
    "vcmp.f32 " a ", " bound "\n vmrs APSR_nzcv, fpscr\n it " when "\n vmov" when ".f32 " a ", " bound "\n"
#define MK_BOUND8_F32(bound, when, a0, a1, a2, a3, a4, a5, a6, a7)                                                \
    MK_BOUND_F32(a0, bound, when) MK_BOUND_F32(a1, bound, when) MK_BOUND_F32(a2, bound, when)                     \
    MK_BOUND_F32(a3, bound, when) MK_BOUND_F32(a4, bound, when) MK_BOUND_F32(a5, bound, when)                     \
    MK_BOUND_F32(a6, bound, when) MK_BOUND_F32(a7, bound, when)
#define MK_LOW8_F32(bound, when) MK_BOUND8_F32(bound, when, "s0", "s1", "s2", "s3", "s4", "s5", "s6", "s7")
#define MK_HIGH8_F32(bound, when) MK_BOUND8_F32(bound, when, "s8", "s9", "s10", "s11", "s12", "s13", "s14", "s15")

/* Bias, clamps and outputs of one pixel. */
#define MK_OUTPUTS1_F32                                                                                           \
    MK_ADD8_F32("s0", "s1", "s2", "s3", "s4", "s5", "s6", "s7")                                                   \
    "lsrs r12, r12, #1\n bcc 1f\n" MK_LOW8_F32("s24", "mi")                                                       \
    "1: cmp r12, #0\n beq 2f\n" MK_LOW8_F32("s25", "gt") "2: vstmia r0, {s0-s7}\n"

#define MK_MAT2_BODY_F32(LOAD)                                                                                    \
    MK_WINDOW_ENTER_F32("s0-s15")                                                                                 \
    "7: add r5, r4, lr\n ldr r12, [r1, #28]\n lsrs r12, r12, #1\n bcc 1f\n"                                       \
    "vldmia r4!, {s24}\n vldmia r5!, {s26}\n" MK_MAT2_STEP_F32(LOAD, "s24", "s26")                                \
    "1: subs r12, r12, #1\n blo 3f\n"                                                                             \
    "2: vldmia r4!, {s24, s25}\n vldmia r5!, {s26, s27}\n"                                                        \
    MK_MAT2_STEP_F32(LOAD, "s24", "s26") MK_MAT2_STEP_F32(LOAD, "s25", "s27")                                     \
    "subs r12, r12, #1\n bhs 2b\n"                                                                                \
    "3: ldr r12, [r1, #32]\n add r4, r4, r12\n" MK_WINDOW_NEXT_F32                                                \
    MK_ADD8_F32("s0", "s1", "s2", "s3", "s4", "s5", "s6", "s7")                                                   \
    MK_ADD8_F32("s8", "s9", "s10", "s11", "s12", "s13", "s14", "s15")                                             \
    "lsrs r12, r12, #1\n bcc 1f\n" MK_LOW8_F32("s24", "mi") MK_HIGH8_F32("s24", "mi")                             \
    "1: cmp r12, #0\n beq 2f\n" MK_LOW8_F32("s25", "gt") MK_HIGH8_F32("s25", "gt")                                \
    "2: ldr r12, [r1, #56]\n vstmia r0, {s0-s7}\n add r0, r0, r12\n vstmia r0, {s8-s15}\n"                        \
    MK_WINDOW_LEAVE_F32

#define MK_MAT1_BODY_F32(LOAD)                                                                                    \
    MK_WINDOW_ENTER_F32("s0-s7")                                                                                  \
    "7: ldr r12, [r1, #28]\n lsrs r12, r12, #1\n bcc 1f\n"                                                        \
    "vldmia r4!, {s16}\n" MK_MAT1_STEP_F32(LOAD, "s16")                                                           \
    "1: subs r12, r12, #1\n blo 3f\n"                                                                             \
    "2: vldmia r4!, {s16, s17}\n" MK_MAT1_STEP_F32(LOAD, "s16") MK_MAT1_STEP_F32(LOAD, "s17")                     \
    "subs r12, r12, #1\n bhs 2b\n"                                                                                \
    "3: ldr r12, [r1, #32]\n add r4, r4, r12\n" MK_WINDOW_NEXT_F32 MK_OUTPUTS1_F32 MK_WINDOW_LEAVE_F32

#define MK_TAPS_BODY_F32(LOAD)                                                                                    \
    MK_WINDOW_ENTER_F32("s0-s7") "ldr r12, [r1, #32]\n add r12, r12, #4\n"                                        \
    "7: vldmia r4, {s8-s15}\n" LOAD "add r4, r4, r12\n"                                                           \
    "vmul.f32 s8, s8, s16\n vmul.f32 s9, s9, s17\n vmul.f32 s10, s10, s18\n vmul.f32 s11, s11, s19\n"             \
    "vmul.f32 s12, s12, s20\n vmul.f32 s13, s13, s21\n vmul.f32 s14, s14, s22\n vmul.f32 s15, s15, s23\n"         \
    "vadd.f32 s0, s0, s8\n vadd.f32 s1, s1, s9\n vadd.f32 s2, s2, s10\n vadd.f32 s3, s3, s11\n"                   \
    "vadd.f32 s4, s4, s12\n vadd.f32 s5, s5, s13\n vadd.f32 s6, s6, s14\n vadd.f32 s7, s7, s15\n"                 \
    MK_WINDOW_NEXT_F32 MK_OUTPUTS1_F32 MK_WINDOW_LEAVE_F32

#define MK_MAT_ARGS_F32(TYPE)                                                                                     \
    MK_ARG float *out, MK_ARG const struct mk_window_f32 *at, MK_ARG const TYPE *w, MK_ARG int offset, MK_ARG const float *bias

#ifndef MK_HALF
MK_ASM void mk_mat2_f32(MK_MAT_ARGS_F32(float)) { __asm__(MK_MAT2_BODY_F32(MK_LOAD16_F32)); }
MK_ASM void mk_mat1_f32(MK_MAT_ARGS_F32(float)) { __asm__(MK_MAT1_BODY_F32(MK_LOAD8_F32)); }
MK_ASM void mk_taps_f32(MK_MAT_ARGS_F32(float)) { __asm__(MK_TAPS_BODY_F32(MK_LOAD16_F32)); }
#else
MK_ASM void mk_mat2_full_f32(MK_MAT_ARGS_F32(float)) { __asm__(MK_MAT2_BODY_F32(MK_LOAD16_F32)); }
MK_ASM void mk_mat1_full_f32(MK_MAT_ARGS_F32(float)) { __asm__(MK_MAT1_BODY_F32(MK_LOAD8_F32)); }
MK_ASM void mk_taps_full_f32(MK_MAT_ARGS_F32(float)) { __asm__(MK_TAPS_BODY_F32(MK_LOAD16_F32)); }

/* Eight halves in four registers become eight floats, the registers that hold halves last. */
#define MK_HALVES_F32(w0, w1, w2, w3, w4, w5, w6, w7)                                                             \
    "vldmia r2!, {" w4 "-" w7 "}\n"                                                                               \
    "vcvtb.f32.f16 " w0 ", " w4 "\n vcvtt.f32.f16 " w1 ", " w4 "\n vcvtb.f32.f16 " w2 ", " w5 "\n"                 \
    "vcvtt.f32.f16 " w3 ", " w5 "\n vcvtb.f32.f16 " w4 ", " w6 "\n vcvtt.f32.f16 " w5 ", " w6 "\n"                 \
    "vcvtb.f32.f16 " w6 ", " w7 "\n vcvtt.f32.f16 " w7 ", " w7 "\n"
#define MK_HALVES16_F32 MK_HALVES_F32("s16", "s17", "s18", "s19", "s20", "s21", "s22", "s23")
#define MK_HALVES8_F32 MK_HALVES_F32("s8", "s9", "s10", "s11", "s12", "s13", "s14", "s15")

MK_ASM void mk_mat2_half_f32(MK_MAT_ARGS_F32(uint16_t)) { __asm__(MK_MAT2_BODY_F32(MK_HALVES16_F32)); }
MK_ASM void mk_mat1_half_f32(MK_MAT_ARGS_F32(uint16_t)) { __asm__(MK_MAT1_BODY_F32(MK_HALVES8_F32)); }
MK_ASM void mk_taps_half_f32(MK_MAT_ARGS_F32(uint16_t)) { __asm__(MK_TAPS_BODY_F32(MK_HALVES16_F32)); }

static inline void mk_mat2_f32(float *out, const struct mk_window_f32 *at, mk_weights_f32 w, int offset, const float *bias) {
    if (w.half)
        mk_mat2_half_f32(out, at, w.half, offset, bias);
    else
        mk_mat2_full_f32(out, at, w.weight, offset, bias);
}

static inline void mk_mat1_f32(float *out, const struct mk_window_f32 *at, mk_weights_f32 w, int offset, const float *bias) {
    if (w.half)
        mk_mat1_half_f32(out, at, w.half, offset, bias);
    else
        mk_mat1_full_f32(out, at, w.weight, offset, bias);
}

static inline void mk_taps_f32(float *out, const struct mk_window_f32 *at, mk_weights_f32 w, int offset, const float *bias) {
    if (w.half)
        mk_taps_half_f32(out, at, w.half, offset, bias);
    else
        mk_taps_full_f32(out, at, w.weight, offset, bias);
}
#endif

#else

/* `spread`: from one channel's inputs to the next one's, 0 or 4. */
MK_SHARED void mk_eight_f32(float *out, const struct mk_window_f32 *at, mk_weights_f32 w, int offset, const float *bias,
                            int spread) {
    for (int c = 0; c < MK_LANES; ++c, offset += spread)
        out[c] = mk_clamp_f32(mk_sum_f32(at, mk_behind_f32(w, c), offset, MK_LANES) + bias[c], at->act_min, at->act_max);
}

static inline void mk_mat1_f32(float *out, const struct mk_window_f32 *at, mk_weights_f32 w, int offset,
                               const float *bias) {
    mk_eight_f32(out, at, w, offset, bias, 0);
}

static inline void mk_mat2_f32(float *out, const struct mk_window_f32 *at, mk_weights_f32 w, int offset,
                               const float *bias) {
    mk_eight_f32(out, at, w, offset, bias, 0);
    mk_eight_f32(out + at->out_distance / 4, at, w, offset + at->distance, bias, 0);
}

static inline void mk_taps_f32(float *out, const struct mk_window_f32 *at, mk_weights_f32 w, int offset,
                               const float *bias) {
    mk_eight_f32(out, at, w, offset, bias, 4);
}
#endif
