/* The pool of mk_max_pool2d_s8.h on Helium, 16 channels at a time. */
struct mk_max_pool2d_s8_mve {
    int32_t in_w, in_ch, out_w;
    int32_t kernel_h, kernel_w, stride_h, stride_w, pad_left;
    int32_t act_min, act_max;
};

/* The maxima of up to 16 channels over `cols` columns of the rows. */
static inline void mk_max_pool2d_s8_mve_window(const struct mk_max_pool2d_s8_mve *p, const int8_t *const *in, int offset,
                                               int cols, int channels, int8_t *out) {
#if MK_MVE
    const mve_pred16_t lanes = vctp8q((uint32_t)channels);
    int8x16_t top = vdupq_n_s8(INT8_MIN);
    for (int ky = 0; ky < p->kernel_h; ++ky) {
        if (!in[ky]) continue;
        const int8_t *x = in[ky] + offset;
        for (int kx = cols; kx > 0; --kx, x += p->in_ch) top = vmaxq_s8(top, vldrbq_z_s8(x, lanes));
    }
    vstrbq_p_s8(out, top, lanes);
#else
    for (int c = 0; c < mk_min(channels, 16); ++c) {
        int32_t top = INT8_MIN;
        for (int ky = 0; ky < p->kernel_h; ++ky)
            for (int kx = 0; in[ky] && kx < cols; ++kx) top = mk_max(top, in[ky][offset + kx * p->in_ch + c]);
        out[c] = (int8_t)top;
    }
#endif
}

MK_KERNEL static void mk_max_pool2d_s8_mve(const struct mk_max_pool2d_s8_mve *p, const int8_t *const *in, int8_t *out,
                                           int rows) {
    int8_t *to = out;
    for (int r = 0; r < rows; ++r, in += p->stride_h)
        for (int j = 0, first = -p->pad_left; j < p->out_w; ++j, first += p->stride_w, to += p->in_ch) {
            const int lo = mk_max(-first, 0), hi = mk_min(p->kernel_w, p->in_w - first);
            for (int c = 0; c < p->in_ch; c += 16)
                mk_max_pool2d_s8_mve_window(p, in, (first + lo) * p->in_ch + c, hi - lo, p->in_ch - c, to + c);
        }
    mk_clamp_row_s8(out, (int)(to - out), p->act_min, p->act_max);
}
