/* y[i][j][o] = clamp(requantize(bias[o] + sum (x + in_offset) * (weight + weight_offset)) + out_offset)
 *
 * The sum runs over the kernel's taps that lie inside the frame and over the group_in input channels of the group that o
 * is in; weight is [out_ch][kernel_h][kernel_w][group_in]; bias may be null. Tap (ky, kx) of output pixel (i, j) is
 * in[i * stride_h + ky * dilation_h] at column j * stride_w - pad_left + kx * dilation_w. TFLite's CONV_2D.
 */
struct mk_conv2d_s8 {
    int32_t in_w, in_ch, out_w;
    int32_t kernel_h, kernel_w, stride_h, stride_w, pad_left, dilation_h, dilation_w;
    int32_t out_ch;
    int32_t group_in, group_out; /* input and output channels of one group */
    int32_t in_offset, weight_offset, out_offset, act_min, act_max;
    int32_t per_channel; /* 1: mult and shift hold one entry per output channel, 0: one in all */
    const int32_t *mult;
    const int8_t *shift;
    const int8_t *weight;
    const int32_t *bias;
    int8_t *patch; /* scratch: the inputs of a pixel and a group; null where they are adjacent in one input row */
};

/* Bring together the inputs that one group's weights are multiplied by; outside the frame they count as zero. */
static void mk_conv2d_s8_gather(const struct mk_conv2d_s8 *p, const int8_t *const *in, int first, int channel) {
    const int group_in = p->group_in, step = p->dilation_w * p->in_ch, zero = -p->in_offset;
    int8_t *to = p->patch;
    for (int ky = 0; ky < p->kernel_h; ++ky) {
        const int8_t *row = in[ky * p->dilation_h];
        int column = first, offset = first * p->in_ch + channel;
        for (int kx = p->kernel_w; kx > 0; --kx, column += p->dilation_w, offset += step) {
            int8_t *end = to + group_in;
            if (row && column >= 0 && column < p->in_w)
                for (const int8_t *from = row + offset; to != end;) *to++ = *from++;
            else
                while (to != end) *to++ = (int8_t)zero;
        }
    }
}

/* The outputs [n, end) of a pixel, all of one group, from its inputs side by side. */
static void mk_conv2d_s8_group(const struct mk_conv2d_s8 *p, const int8_t *x, int8_t *out, int n, int end) {
    const int size = p->kernel_h * p->kernel_w * p->group_in;
    uint32_t extra = 0; /* what a nonzero weight_offset adds to each sum */
    if (p->weight_offset) {
        for (int k = 0; k < size; ++k) extra += (uint32_t)(x[k] + p->in_offset);
        extra *= (uint32_t)p->weight_offset;
    }
    for (int count; n < end; n += count) {
        uint32_t acc[4] = {extra, extra, extra, extra};
        count = end - n >= 4 ? 4 : 1; /* of the last few, one at a time */
        mk_dot4_s8(acc, x, p->weight + n * size, size, count == 4 ? size : 0, p->in_offset);
        for (int i = 0; i < count; ++i) {
            int o = n + i, at = p->per_channel ? o : 0;
            int32_t sum = (int32_t)(acc[i] + (p->bias ? (uint32_t)p->bias[o] : 0));
            out[o] = mk_offset_clamp(mk_requantize(sum, p->mult[at], p->shift[at]), p->out_offset, p->act_min,
                                     p->act_max);
        }
    }
}

__attribute__((unused)) static void mk_conv2d_s8(const struct mk_conv2d_s8 *p, const int8_t *const *in, int8_t *out, int rows) {
    for (int r = 0; r < rows; ++r, in += p->stride_h)
        for (int j = 0; j < p->out_w; ++j, out += p->out_ch) {
            const int first = j * p->stride_w - p->pad_left;
            for (int n = 0, channel = 0; n < p->out_ch; n += p->group_out, channel += p->group_in) {
                const int8_t *x = p->patch;
                if (x)
                    mk_conv2d_s8_gather(p, in, first, channel);
                else
                    x = in[0] + first * p->in_ch + channel;
                mk_conv2d_s8_group(p, x, out, n, n + p->group_out);
            }
        }
}
