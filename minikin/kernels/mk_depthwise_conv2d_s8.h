/* y[i][j][o] = clamp(requantize(bias[o] + sum (x + in_offset) * (weight + weight_offset)) + out_offset)
 *
 * The sum runs over the kernel's taps that lie inside the frame; channel o reads input channel o / multiplier, where
 * multiplier = out_ch / in_ch. weight is [kernel_h][kernel_w][out_ch]; bias may be null. Tap (ky, kx) of output pixel
 * (i, j) is in[i * stride_h + ky * dilation_h] at column j * stride_w - pad_left + kx * dilation_w. TFLite's
 * DEPTHWISE_CONV_2D.
 */
struct mk_depthwise_conv2d_s8 {
    int32_t in_w, in_ch, out_w;
    int32_t kernel_h, kernel_w, stride_h, stride_w, pad_left, dilation_h, dilation_w;
    int32_t out_ch;
    int32_t in_offset, weight_offset, out_offset, act_min, act_max;
    int32_t per_channel; /* 1: mult and shift hold one entry per output channel, 0: one in all */
    const int32_t *mult;
    const int8_t *shift;
    const int8_t *weight;
    const int32_t *bias;
};

/* The taps of one pixel: offsets of the first into an input row and into a kernel row, how many lie in the frame. */
struct mk_depthwise_conv2d_s8_taps {
    int x, w, cols;
};

/* acc[i] = the products of channel o + i, for four channels with an input channel each and weights without an offset. */
static void mk_depthwise_conv2d_s8_four(const struct mk_depthwise_conv2d_s8 *p,
                                        const struct mk_depthwise_conv2d_s8_taps *taps, const int8_t *const *in,
                                        int o, uint32_t acc[4]) {
    const int8_t *kernel_row = p->weight + taps->w + o;
    uint32_t a0 = 0, a1 = 0, a2 = 0, a3 = 0;
    for (int ky = p->kernel_h; ky > 0; --ky, in += p->dilation_h, kernel_row += p->kernel_w * p->out_ch) {
        if (!*in) continue;
        const int8_t *x = *in + taps->x + o, *w = kernel_row;
        const int32_t offset = p->in_offset;
        const int x_step = p->dilation_w * p->in_ch, w_step = p->out_ch;
        for (int kx = taps->cols; kx > 0; --kx, x += x_step, w += w_step) {
            a0 += (uint32_t)((x[0] + offset) * w[0]);
            a1 += (uint32_t)((x[1] + offset) * w[1]);
            a2 += (uint32_t)((x[2] + offset) * w[2]);
            a3 += (uint32_t)((x[3] + offset) * w[3]);
        }
    }
    acc[0] = a0, acc[1] = a1, acc[2] = a2, acc[3] = a3;
}

/* The products of channel o, whichever input channel it reads. */
static uint32_t mk_depthwise_conv2d_s8_one(const struct mk_depthwise_conv2d_s8 *p,
                                           const struct mk_depthwise_conv2d_s8_taps *taps, const int8_t *const *in,
                                           int o, int channel) {
    const int8_t *kernel_row = p->weight + taps->w + o;
    uint32_t acc = 0;
    for (int ky = p->kernel_h; ky > 0; --ky, in += p->dilation_h, kernel_row += p->kernel_w * p->out_ch) {
        if (!*in) continue;
        const int8_t *x = *in + taps->x + channel, *w = kernel_row;
        for (int kx = taps->cols; kx > 0; --kx, x += p->dilation_w * p->in_ch, w += p->out_ch)
            acc += (uint32_t)((*x + p->in_offset) * (*w + p->weight_offset));
    }
    return acc;
}

static void mk_depthwise_conv2d_s8_pixel(const struct mk_depthwise_conv2d_s8 *p, const int8_t *const *in, int first,
                                         int8_t *out) {
    const int lo = mk_tap_lo(first, p->dilation_w, p->kernel_w);
    const int cols = mk_max(0, mk_tap_hi(first, p->dilation_w, p->kernel_w, p->in_w) - lo);
    const struct mk_depthwise_conv2d_s8_taps taps = {
        cols ? (first + lo * p->dilation_w) * p->in_ch : 0, cols ? lo * p->out_ch : 0, cols};
    const int plain = p->in_ch == p->out_ch && p->weight_offset == 0;
    const int multiplier = p->out_ch / p->in_ch;
    for (int o = 0, count, channel = 0, left = multiplier; o < p->out_ch; o += count) {
        uint32_t acc[4];
        count = plain && o + 4 <= p->out_ch ? 4 : 1;
        if (count == 4) {
            mk_depthwise_conv2d_s8_four(p, &taps, in, o, acc);
        } else {
            acc[0] = mk_depthwise_conv2d_s8_one(p, &taps, in, o, plain ? o : channel);
            if (--left == 0) ++channel, left = multiplier;
        }
        for (int i = 0; i < count; ++i) {
            int at = p->per_channel ? o + i : 0;
            uint32_t sum = acc[i] + (p->bias ? (uint32_t)p->bias[o + i] : 0);
            int32_t scaled = mk_requantize((int32_t)sum, p->mult[at], p->shift[at]);
            *out++ = mk_offset_clamp(scaled, p->out_offset, p->act_min, p->act_max);
        }
    }
}

__attribute__((unused)) static void mk_depthwise_conv2d_s8(const struct mk_depthwise_conv2d_s8 *p, const int8_t *const *in, int8_t *out,
                                   int rows) {
    for (int r = 0; r < rows; ++r, in += p->stride_h)
        for (int j = 0; j < p->out_w; ++j, out += p->out_ch)
            mk_depthwise_conv2d_s8_pixel(p, in, j * p->stride_w - p->pad_left, out);
}
