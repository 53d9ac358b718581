/* y[i][j][o] = clamp(sum x * weight + bias[o])
 *
 * The sum runs over the kernel's taps that lie inside the frame; channel o reads input channel o / multiplier, where
 * multiplier = out_ch / in_ch; bias may be null. Tap (ky, kx) of output pixel (i, j) is in[i * stride_h + ky * dilation_h]
 * at column j * stride_w - pad_left + kx * dilation_w. The weights are `blocks` blocks of eight channels,
 * [kernel_h][kernel_w][8], then the channels left over, [kernel_h][kernel_w] each. A multiplier other than 1 has no blocks.
 */
struct mk_depthwise_conv2d_f32 {
    int32_t in_w, in_ch, out_w;
    int32_t kernel_h, kernel_w, stride_h, stride_w, pad_left, dilation_h, dilation_w;
    int32_t out_ch, blocks;
    float act_min, act_max;
    const float *weight;
    const uint16_t *half; /* the weights, where they are halves; then weight is null */
    const float *bias;
};

static void mk_depthwise_conv2d_f32_pixel(const struct mk_depthwise_conv2d_f32 *p, const float *const *in, int first,
                                          float *out) {
    const int lo = mk_tap_lo(first, p->dilation_w, p->kernel_w);
    const int hi = mk_tap_hi(first, p->dilation_w, p->kernel_w, p->in_w);
    const int at = (first + lo * p->dilation_w) * p->in_ch, step = p->dilation_w * p->in_ch;
    const int multiplier = p->out_ch / p->in_ch;
    const int depth = mk_weight_bytes_f32(mk_weights_of_f32(p->weight, p->half)) * MK_LANES; /* bytes of a tap's weights */
    const struct mk_window_f32 window = {in, lo < hi ? p->kernel_h : 0, p->dilation_h * (int32_t)sizeof *in,
                                         depth * lo, depth * (p->kernel_w - hi), 0, hi - lo, 1, 4 * step - 4,
                                         depth * p->kernel_w, mk_zeros_f32,
                                         mk_clamps_f32(p->act_min, p->act_max), p->act_min, p->act_max, 0};
    mk_weights_f32 w = mk_weights_of_f32(p->weight, p->half);
    const float *bias = p->bias ? p->bias : mk_zeros_f32;
    int o = 0;
    for (; o < p->blocks * MK_LANES; o += MK_LANES, w = mk_behind_f32(w, MK_LANES * p->kernel_h * p->kernel_w)) {
        mk_taps_f32(out + o, &window, w, 4 * (at + o), bias);
        if (p->bias) bias += MK_LANES;
    }
    for (int channel = o, left = multiplier; o < p->out_ch; ++o, w = mk_behind_f32(w, p->kernel_h * p->kernel_w)) {
        const float sum = mk_sum_f32(&window, w, 4 * (at + channel), 1);
        out[o] = mk_clamp_f32(sum + *bias, p->act_min, p->act_max);
        if (p->bias) ++bias;
        if (--left == 0) ++channel, left = multiplier;
    }
}

static void mk_depthwise_conv2d_f32(const struct mk_depthwise_conv2d_f32 *p, const float *const *in, float *out,
                                    int rows) {
    for (int r = 0; r < rows; ++r, in += p->stride_h)
        for (int j = 0; j < p->out_w; ++j, out += p->out_ch)
            mk_depthwise_conv2d_f32_pixel(p, in, j * p->stride_w - p->pad_left, out);
}
