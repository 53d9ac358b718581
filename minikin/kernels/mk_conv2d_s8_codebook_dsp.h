/* The conv2d of mk_conv2d_s8_codebook.h on DSP instructions. */
struct mk_conv2d_s8_codebook_dsp {
    struct mk_expanded_dsp conv;
    const int32_t *bias; /* with the input's zero point folded in */
    struct mk_codebook codes;
};

MK_KERNEL static void mk_conv2d_s8_codebook_dsp(const struct mk_conv2d_s8_codebook_dsp *p, const int8_t *const *in,
                                                int8_t *out, int rows) {
    const struct mk_expanded_dsp *conv = &p->conv;
    struct mk_codebook_reader reader = mk_codebook_start(&p->codes);
    for (int n = 0, count; n < conv->out_ch; n += count) {
        count = mk_min(4, conv->out_ch - n);
        for (int k = 0; k < 4 * conv->quads; ++k)
            for (int i = 0; i < count; ++i)
                conv->weight[mk_expanded_dsp_at(k) + 4 * i] = (int16_t)(k < conv->patch.size ? mk_codebook_next(&reader) : 0);
        mk_expanded_dsp_s8(conv, in, out, rows, n, count, p->bias + n);
    }
}
