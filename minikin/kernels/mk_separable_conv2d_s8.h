/* depthwise_conv2d, then conv2d of 1x1: of what lies between them one pixel is kept, in scratch memory. */
struct mk_separable_conv2d_s8 {
    struct mk_depthwise_conv2d_s8 depthwise;
    struct mk_conv2d_s8 pointwise;
    int32_t out_w, out_ch, stride_h, stride_w, pad_left;
    int8_t *pixel;
};

static void mk_separable_conv2d_s8(const struct mk_separable_conv2d_s8 *p, const int8_t *const *in, int8_t *out, int rows) {
    for (int r = 0; r < rows; ++r, in += p->stride_h)
        for (int j = 0; j < p->out_w; ++j, out += p->out_ch) {
            mk_depthwise_conv2d_s8_pixel(&p->depthwise, in, j * p->stride_w - p->pad_left, p->pixel);
            mk_conv2d_s8_group(&p->pointwise, p->pixel, out, 0, p->out_ch);
        }
}
