/* The conv2d of mk_conv2d_s8.h by mk_pair_x4.h. A row's inputs are copied column by column, those of all kernel rows one behind
 * the other, padding included: a window is then one run of bytes. Where the kernel has one row and no padding the windows
 * are read in place.
 */
struct mk_conv2d_s8_x4 {
    int32_t in_w, in_ch, out_w, stride_h, stride_w, pad_left, dilation_h, kernel_h;
    int32_t zero;    /* what stands for an input outside the frame */
    int32_t columns; /* that a row of outputs reads, padding included */
    int32_t out_ch, inputs, low, act_min, act_max;
    const int32_t *stream;
    int32_t *pair;
    int8_t *buffer; /* the columns; null where the windows are read in place */
};

/* Copy the columns of a kernel row; a null row is padding. */
static void mk_conv2d_s8_x4_row(const struct mk_conv2d_s8_x4 *p, const int8_t *row, int8_t *to) {
    const int step = p->kernel_h * p->in_ch;
    for (int x = -p->pad_left; x < p->columns - p->pad_left; ++x, to += step) {
        if (row && x >= 0 && x < p->in_w)
            mk_append_s8(to, row, x * p->in_ch, p->in_ch);
        else
            mk_fill_s8(to, (int8_t)p->zero, p->in_ch);
    }
}

MK_KERNEL static void mk_conv2d_s8_x4(const struct mk_conv2d_s8_x4 *p, const int8_t *const *in, int8_t *out, int rows) {
    const int step = p->stride_w * p->in_ch * (p->buffer ? p->kernel_h : 1);
    const struct mk_pair_x4 mat = {p->stream, p->pair, p->inputs, p->out_ch, p->low, p->act_min, p->act_max};
    for (int left = rows, pixels; left > 0; out += pixels * p->out_ch) {
        const int8_t *row = *in;
        int8_t *to = p->buffer;
        for (int ky = 0; to && ky < p->kernel_h; ++ky, to += p->in_ch) mk_conv2d_s8_x4_row(p, in[ky * p->dilation_h], to);
        pixels = p->out_w;
        --left, in += p->stride_h;
        while (!p->buffer && left > 0 && *in == row + pixels * step) --left, in += p->stride_h, pixels += p->out_w;
        mk_pair_x4(&mat, p->buffer ? p->buffer : row, out, step, pixels);
    }
}
