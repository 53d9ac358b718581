/* The inputs of one output pixel of a convolution: the kernel's taps, row by row, each with all channels.
 *
 * Tap (ky, kx) of output pixel (i, j) is in[i * stride_h + ky * dilation_h] at column j * stride_w - pad_left + kx * dilation_w;
 * outside the frame it is `zero`.
 */
struct mk_patch {
    int32_t in_w, in_ch, out_w;
    int32_t kernel_h, kernel_w, stride_h, stride_w, pad_left, dilation_h, dilation_w;
    int32_t zero, size; /* inputs of a pixel */
    int8_t *buffer;     /* scratch; null where they are adjacent in one input row */
};

/* The inputs of pixel j of the output row whose input rows are in[0], in[1], ... */
__attribute__((unused)) static const int8_t *mk_patch_s8(const struct mk_patch *p, const int8_t *const *in, int j) {
    const int first = j * p->stride_w - p->pad_left, in_ch = p->in_ch;
    if (!p->buffer) return in[0] + first * in_ch;
    int8_t *to = p->buffer;
    for (int ky = 0; ky < p->kernel_h; ++ky) {
        const int8_t *row = in[ky * p->dilation_h];
        int column = first;
        for (int kx = p->kernel_w; kx > 0; --kx, column += p->dilation_w) {
            int8_t *end = to + in_ch;
            if (row && column >= 0 && column < p->in_w)
                for (const int8_t *from = row + column * in_ch; to != end;) *to++ = *from++;
            else
                while (to != end) *to++ = (int8_t)p->zero;
        }
    }
    return p->buffer;
}
