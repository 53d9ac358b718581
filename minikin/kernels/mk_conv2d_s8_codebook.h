/* The conv2d of mk_conv2d_s8.h, without groups, whose weights are indices of a codebook (mk_codebook.h). */
struct mk_conv2d_s8_codebook {
    struct mk_expanded conv;
    const int32_t *bias;
    struct mk_codebook codes;
};

MK_KERNEL static void mk_conv2d_s8_codebook(const struct mk_conv2d_s8_codebook *p, const int8_t *const *in, int8_t *out,
                                            int rows) {
    const struct mk_expanded *conv = &p->conv;
    struct mk_codebook_reader reader = mk_codebook_start(&p->codes);
    for (int n = 0, count; n < conv->out_ch; n += count) {
        count = mk_min(conv->most, conv->out_ch - n);
        mk_codebook_rows(&reader, conv->weight, conv->patch.size, count);
        mk_expanded_s8(conv, in, out, rows, n, count, p->bias + n);
    }
}
