/* y[i][j][o] = clamp(sum x * weight + bias[o])
 *
 * The sum runs over the kernel's taps that lie inside the frame and over the group_in input channels of the group that o
 * is in; bias may be null. Tap (ky, kx) of output pixel (i, j) is in[i * stride_h + ky * dilation_h] at column
 * j * stride_w - pad_left + kx * dilation_w. The weights of a group are blocks of eight output channels,
 * [kernel_h][kernel_w][group_in][8], then the channels left over, [kernel_h][kernel_w][group_in] each.
 */
struct mk_conv2d_f32 {
    int32_t in_w, in_ch, out_w;
    int32_t kernel_h, kernel_w, stride_h, stride_w, pad_left, dilation_h, dilation_w;
    int32_t out_ch;
    int32_t group_in, group_out; /* input and output channels of one group */
    float act_min, act_max;
    const float *weight;
    const uint16_t *half; /* the weights, where they are halves; then weight is null */
    const float *bias;
};

/* All channels of one output pixel, or of two side by side whose taps are all inside the frame. */
static void mk_conv2d_f32_pixels(const struct mk_conv2d_f32 *p, const struct mk_window_f32 *at, int offset, float *out,
                                 int pair) {
    const int size = p->kernel_h * p->kernel_w * p->group_in;
    mk_weights_f32 w = mk_weights_of_f32(p->weight, p->half);
    const float *bias = p->bias ? p->bias : mk_zeros_f32;
    for (int channel = 0; channel < p->in_ch; channel += p->group_in, offset += 4 * p->group_in) {
        int left = p->group_out;
        for (; left >= MK_LANES; left -= MK_LANES, w = mk_behind_f32(w, MK_LANES * size), out += MK_LANES) {
            if (pair)
                mk_mat2_f32(out, at, w, offset, bias);
            else
                mk_mat1_f32(out, at, w, offset, bias);
            if (p->bias) bias += MK_LANES;
        }
        for (; left > 0; --left, w = mk_behind_f32(w, size), ++out) {
            for (int i = 0; i <= pair; ++i) {
                const float sum = mk_sum_f32(at, w, offset + i * at->distance, 1);
                out[i * p->out_ch] = mk_clamp_f32(sum + *bias, p->act_min, p->act_max);
            }
            if (p->bias) ++bias;
        }
    }
}

static void mk_conv2d_f32(const struct mk_conv2d_f32 *p, const float *const *in, float *out, int rows) {
    const int depth = mk_weight_bytes_f32(mk_weights_of_f32(p->weight, p->half)) * MK_LANES * p->group_in; /* bytes of a tap's weights */
    const int is_row = p->dilation_w == 1 && p->group_in == p->in_ch; /* the taps of a row lie side by side */
    struct mk_window_f32 at = {NULL, 0, p->dilation_h * (int32_t)sizeof *in, 0, 0, 4 * p->stride_w * p->in_ch, 0,
                               p->group_in, 4 * (p->dilation_w * p->in_ch - p->group_in), p->kernel_w * depth,
                               mk_zeros_f32, mk_clamps_f32(p->act_min, p->act_max), p->act_min, p->act_max, 4 * p->out_ch};
    for (int r = 0; r < rows; ++r, in += p->stride_h) {
        at.in = in;
        for (int j = 0; j < p->out_w;) {
            const int first = j * p->stride_w - p->pad_left, end = first + (p->kernel_w - 1) * p->dilation_w;
            const int pair = j + 1 < p->out_w && first >= 0 && end + p->stride_w < p->in_w;
            const int lo = pair ? 0 : mk_tap_lo(first, p->dilation_w, p->kernel_w);
            const int hi = pair ? p->kernel_w : mk_tap_hi(first, p->dilation_w, p->kernel_w, p->in_w);
            at.rows = lo < hi ? p->kernel_h : 0;
            at.before = lo * depth;
            at.after = (p->kernel_w - hi) * depth;
            at.taps = is_row ? 1 : hi - lo;
            at.n = is_row ? (hi - lo) * p->group_in : p->group_in;
            mk_conv2d_f32_pixels(p, &at, 4 * (first + lo * p->dilation_w) * p->in_ch, out, pair);
            j += 1 + pair;
            out += (1 + pair) * p->out_ch;
        }
    }
}
