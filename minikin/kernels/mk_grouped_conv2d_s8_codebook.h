/* The convolution of mk_grouped.h whose weights are indices of a codebook (mk_codebook.h). */
struct mk_grouped_conv2d_s8_codebook {
    struct mk_grouped conv;
    const int32_t *bias;
    struct mk_codebook codes;
};

MK_KERNEL static void mk_grouped_conv2d_s8_codebook(const struct mk_grouped_conv2d_s8_codebook *p, const int8_t *const *in,
                                                   int8_t *out, int rows) {
    const struct mk_grouped *conv = &p->conv;
    struct mk_codebook_reader reader = mk_codebook_start(&p->codes);
    for (int o = 0; o < conv->out_ch; ++o) {
        mk_codebook_rows(&reader, conv->weight, conv->size, 1);
        mk_grouped_s8(conv, in, out, rows, o, p->bias[o]);
    }
}
