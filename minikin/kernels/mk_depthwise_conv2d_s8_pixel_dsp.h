/* The depthwise_conv2d of mk_depthwise_conv2d_s8.h for rows of one pixel (over time, or a whole frame) on DSP instructions, four
 * channels at a time: no input is read twice, so taps are widened in pairs where they are multiplied.
 *
 * A group of four channels is that of mk_depthwise_conv2d_s8_taps_dsp.h, its pairs of taps row by row; of an odd number the last
 * tap's partner has weights of zero.
 */
struct mk_depthwise_conv2d_s8_pixel_dsp {
    int32_t in_w, out_ch, kernel_h, kernel_w, stride_h, pad_left, dilation_h, dilation_w;
    int32_t zero, padded; /* what stands for an input outside the frame; whether any does */
    int32_t taps, blank_words;
    int32_t scale, offset, act_min, act_max;
    const int32_t *stream;
    int32_t *buffer; /* scratch: a row of padding, where the taps lie */
};

/* Where a tap of the pixel whose input rows are in[0], in[1], ... lies. */
static const int8_t *mk_dwp_tap(const struct mk_depthwise_conv2d_s8_pixel_dsp *p, const int8_t *const *in, int ky, int kx) {
    const int8_t *const row = in[ky * p->dilation_h];
    const int column = kx * p->dilation_w - p->pad_left;
    return row && column >= 0 && column < p->in_w ? row + column * p->out_ch : (const int8_t *)p->buffer;
}

#if MK_DSP

/* A pixel of all channels. */
struct mk_dwp_pixel {
    const int8_t *const *taps, *const *end; /* where they lie, an even number of them */
    const int32_t *stream;
    int8_t *out;
    int32_t last; /* the first of the last four channels */
    int32_t scale, offset;
};

/* r0 taps, r1 stream, r12 channel, lr end of the taps, r4-r7 sums. Frame: 0 taps, 4 end, 8 out, 12 last, 16 scale, 20 offset. */
#define MK_DWP_TAP(x, w, sum, ror)                                                                                 \
    "sxtb16 r8, " x ror "\n sxtb16 r9, " w ror "\n smlad " sum ", r8, r9, " sum "\n"
#define MK_DWP_OUT(sum) "lsr.w r8, r2, r10\n smmlar " sum ", " sum ", r8, r3\n"
MK_ASM void mk_dwp_run(MK_ARG const struct mk_dwp_pixel *pixel) {
    __asm__("push {r4-r11, lr}\n sub sp, sp, #24\n ldmia r0, {r0, r1, r2, r3, r4, r5, r6}\n strd r0, r1, [sp]\n"
            "strd r3, r4, [sp, #8]\n strd r5, r6, [sp, #16]\n mov lr, r1\n mov r1, r2\n mov.w r12, #0\n"
            "1: ldr r0, [sp]\n ldmia.w r1!, {r4, r5, r6, r7}\n"
            "2: ldmia.w r0!, {r8, r9}\n ldr.w r8, [r8, r12]\n ldr.w r9, [r9, r12]\n ldmia r1!, {r2, r3}\n"
            "pkhbt r10, r8, r9, lsl #16\n pkhtb r11, r9, r8, asr #16\n"
            MK_DWP_TAP("r10", "r2", "r4", "") MK_DWP_TAP("r10", "r2", "r5", ", ror #8")
            MK_DWP_TAP("r11", "r3", "r6", "") MK_DWP_TAP("r11", "r3", "r7", ", ror #8")
            "cmp r0, lr\n bne 2b\n"
            "ldmia.w r1!, {r2, r3, r8, r9, r10}\n smmlar r4, r4, r2, r4\n smmlar r5, r5, r3, r5\n smmlar r6, r6, r8, r6\n"
            "smmlar r7, r7, r9, r7\n ldrd r2, r3, [sp, #16]\n" MK_DWP_OUT("r4") "lsr.w r10, r10, #8\n" MK_DWP_OUT("r5")
            "lsr.w r10, r10, #8\n" MK_DWP_OUT("r6") "lsr.w r10, r10, #8\n" MK_DWP_OUT("r7")
            "ssat r4, #8, r4\n ssat r5, #8, r5\n ssat r6, #8, r6\n ssat r7, #8, r7\n ldrd r2, r3, [sp, #8]\n add r2, r2, r12\n"
            "strb r4, [r2]\n strb r5, [r2, #1]\n strb r6, [r2, #2]\n strb r7, [r2, #3]\n"
            "cmp r12, r3\n beq 3f\n add.w r12, r12, #4\n cmp r12, r3\n it gt\n movgt r12, r3\n b 1b\n"
            "3: add sp, sp, #24\n pop {r4-r11, pc}\n");
}

static void mk_dwp_pixel(const struct mk_depthwise_conv2d_s8_pixel_dsp *p, const int8_t *const *in, int8_t *out) {
    const int8_t **const taps = (const int8_t **)(p->buffer + p->blank_words), **end = taps;
    for (int ky = 0; ky < p->kernel_h; ++ky)
        for (int kx = 0; kx < p->kernel_w; ++kx) *end++ = mk_dwp_tap(p, in, ky, kx);
    if (p->taps & 1) end[0] = end[-1], ++end;
    const struct mk_dwp_pixel pixel = {taps, end, p->stream, out, p->out_ch - 4, p->scale, p->offset};
    mk_dwp_run(&pixel);
}

#else

static void mk_dwp_pixel(const struct mk_depthwise_conv2d_s8_pixel_dsp *p, const int8_t *const *in, int8_t *out) {
    const int32_t *w = p->stream;
    for (int channel = 0, last = p->out_ch - 4;; channel = mk_min(channel + 4, last)) {
        uint32_t sums[4];
        for (int i = 0; i < 4; ++i) sums[i] = (uint32_t)*w++;
        for (int t = 0; t < p->taps; t += 2, w += 2) {
            const int u = mk_min(t + 1, p->taps - 1);
            const uint32_t a = mk_load4(mk_dwp_tap(p, in, t / p->kernel_w, t % p->kernel_w) + channel);
            const uint32_t b = mk_load4(mk_dwp_tap(p, in, u / p->kernel_w, u % p->kernel_w) + channel);
            const uint32_t x[2] = {mk_pkhbt16(a, b), mk_pkhtb16(b, a)};
            for (int i = 0; i < 4; ++i) {
                const uint32_t own = x[i / 2], bytes = (uint32_t)w[i / 2];
                sums[i] = i % 2 ? mk_smlad(mk_sxtb16_ror8(own), mk_sxtb16_ror8(bytes), sums[i])
                                : mk_smlad(mk_sxtb16(own), mk_sxtb16(bytes), sums[i]);
            }
        }
        for (int i = 0; i < 4; ++i) {
            const int32_t high = (int32_t)(sums[i] + (uint32_t)mk_smmulr((int32_t)sums[i], w[i]));
            const int32_t scale = (int32_t)((uint32_t)p->scale >> ((uint32_t)w[4] >> 8 * i & 255));
            out[channel + i] = (int8_t)mk_clamp(mk_smmulr(high, scale) + p->offset, -128, 127);
        }
        w += 5;
        if (channel == last) break;
    }
}

#endif

MK_KERNEL static void mk_depthwise_conv2d_s8_pixel_dsp(const struct mk_depthwise_conv2d_s8_pixel_dsp *p,
                                                       const int8_t *const *in, int8_t *out, int rows) {
    const int32_t padding = (int32_t)(((uint32_t)p->zero & 0xFF) * 0x01010101u);
    if (p->padded)
        for (int32_t *at = p->buffer, *const end = at + p->blank_words; at != end; at += 4) at[0] = at[1] = at[2] = at[3] = padding;
    for (int r = 0; r < rows; ++r) mk_dwp_pixel(p, in + r * p->stride_h, out + r * p->out_ch);
    mk_clamp_row_s8(out, rows * p->out_ch, p->act_min, p->act_max);
}
