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

/* Copy n bytes, four at a time, and give the place behind them. */
static inline int8_t *mk_patch_copy(int8_t *to, const int8_t *from, int n) {
    for (; n >= 4; n -= 4, from += 4, to += 4) __builtin_memcpy(to, from, 4);
    while (n-- > 0) *to++ = *from++;
    return to;
}

/* The inputs of pixel j of the output row whose input rows are in[0], in[1], ... */
__attribute__((unused)) static const int8_t *mk_patch_s8(const struct mk_patch *p, const int8_t *const *in, int j) {
    const int first = j * p->stride_w - p->pad_left, in_ch = p->in_ch, taps = p->kernel_w;
    if (!p->buffer) return in[0] + first * in_ch;
    const int adjacent = p->dilation_w == 1 && first >= 0 && first + taps <= p->in_w;
    int8_t *to = p->buffer;
    for (int ky = 0; ky < p->kernel_h; ++ky) {
        const int8_t *row = in[ky * p->dilation_h];
        if (!row)
            to = mk_fill_s8(to, (int8_t)p->zero, taps * in_ch);
        else if (adjacent)
            to = mk_patch_copy(to, row + first * in_ch, taps * in_ch);
        else
            for (int kx = 0, column = first; kx < taps; ++kx, column += p->dilation_w)
                to = column >= 0 && column < p->in_w ? mk_patch_copy(to, row + column * in_ch, in_ch)
                                                     : mk_fill_s8(to, (int8_t)p->zero, in_ch);
    }
    return p->buffer;
}
