/* The depthwise conv2d of mk_depthwise_conv2d_s8.h for cores without SIMD, channel by channel. The inputs of a channel that
 * a row of outputs reads are copied as words, column by column, those of all kernel rows one behind the other, padding included:
 * a window is then one run of words, and the next one lies some columns on. The stream has for each channel
 *
 *     bias (with the input's zero point), mult, addend (3 int32), shift, weights by column (int8, filled up to a word)
 *
 * of mk_out_x4.h.
 */
struct mk_depthwise_conv2d_s8_x4 {
    int32_t in_w, in_ch, out_w, kernel_h, stride_h, stride_w, pad_left, dilation_h;
    int32_t out_ch, multiplier, taps;
    int32_t zero;    /* what stands for an input outside the frame */
    int32_t columns; /* that a row of outputs reads, padding included */
    int32_t low, act_min, act_max;
    const int32_t *stream;
    int32_t *buffer;
};

/* Every `step`-th word of `count`. */
static inline int32_t *mk_dw_x4_fill(int32_t *to, int32_t value, int step, int count) {
    for (; count > 0; --count, to += step) *to = value;
    return to;
}

/* The columns of a channel; a null row is padding. */
static void mk_dw_x4_columns(const struct mk_depthwise_conv2d_s8_x4 *p, const int8_t *const *in, int channel) {
    const int height = p->kernel_h, before = mk_min(p->pad_left, p->columns);
    const int inside = mk_min(p->in_w, p->columns - before), end = inside * p->in_ch, step = p->in_ch;
    for (int ky = 0; ky < height; ++ky, in += p->dilation_h) {
        int32_t *to = mk_dw_x4_fill(p->buffer + ky, p->zero, height, before);
        if (*in) {
            const int8_t *row = *in + channel;
            for (int i = 0; i < end; i += step, to += height) *to = row[i];
        } else {
            to = mk_dw_x4_fill(to, p->zero, height, inside);
        }
        mk_dw_x4_fill(to, p->zero, height, p->columns - before - inside);
    }
}

/* A row of a channel's outputs, `step` words from window to window, `out_step` bytes from output to output. */
static inline int32_t mk_dw_x4_dot3(int32_t sum, const int32_t *x, int32_t w0, int32_t w1, int32_t w2) {
    return sum + x[0] * w0 + x[1] * w1 + x[2] * w2;
}

/* 3x3 windows side by side: each column takes part in three sums. */
static void mk_dw_x4_line9(const struct mk_depthwise_conv2d_s8_x4 *p, const struct mk_out_x4 *q, int32_t bias,
                           const int8_t *w, int8_t *out) {
    const int32_t *x = p->buffer;
    const int32_t w0 = w[0], w1 = w[1], w2 = w[2], w3 = w[3], w4 = w[4], w5 = w[5], w6 = w[6], w7 = w[7], w8 = w[8];
    int32_t last = mk_dw_x4_dot3(mk_dw_x4_dot3(bias, x, w0, w1, w2), x + 3, w3, w4, w5);
    int32_t next = mk_dw_x4_dot3(bias, x + 3, w0, w1, w2);
    for (const int32_t *end = x + 3 * p->out_w; x != end; x += 3, out += p->out_ch) {
        const int32_t x0 = x[6], x1 = x[7], x2 = x[8];
        *out = mk_out_x4(q, last + x0 * w6 + x1 * w7 + x2 * w8, p->low);
        last = next + x0 * w3 + x1 * w4 + x2 * w5;
        next = bias + x0 * w0 + x1 * w1 + x2 * w2;
    }
}

static void mk_dw_x4_line(const struct mk_depthwise_conv2d_s8_x4 *p, const struct mk_out_x4 *q, int32_t bias,
                          const int8_t *w, int8_t *out) {
    const int32_t *x = p->buffer;
    for (int j = p->out_w; j > 0; --j, x += p->stride_w * p->kernel_h, out += p->out_ch) {
        int32_t sum = bias;
        for (int k = 0; k < p->taps; ++k) sum += x[k] * w[k];
        *out = mk_out_x4(q, sum, p->low);
    }
}

MK_KERNEL static void mk_depthwise_conv2d_s8_x4(const struct mk_depthwise_conv2d_s8_x4 *p, const int8_t *const *in,
                                                int8_t *out, int rows) {
    const int32_t *stream = p->stream;
    for (int o = 0, channel = 0, left = p->multiplier; o < p->out_ch; ++o, stream += 3 + (p->taps + 4) / 4) {
        const int8_t *last = (const int8_t *)(stream + 3), *const *from = in;
        const struct mk_out_x4 q = {stream[1], stream[2], last[0], p->act_min, p->act_max};
        int8_t *to = out + o;
        for (int r = 0; r < rows; ++r, from += p->stride_h, to += p->out_w * p->out_ch) {
            mk_dw_x4_columns(p, from, channel);
            if (p->kernel_h == 3 && p->taps == 9 && p->stride_w == 1)
                mk_dw_x4_line9(p, &q, stream[0], last + 1, to);
            else
                mk_dw_x4_line(p, &q, stream[0], last + 1, to);
        }
        if (--left == 0) ++channel, left = p->multiplier;
    }
}
