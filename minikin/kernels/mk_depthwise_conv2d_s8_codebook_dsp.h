/* The depthwise_conv2d of mk_expanded_dw3.h whose weights are indices of a codebook (mk_codebook.h). */
struct mk_depthwise_conv2d_s8_codebook_dsp {
    struct mk_depthwise_conv2d_s8_dsp conv;
    struct mk_expanded_dw3 expanded;
    struct mk_codebook codes;
};

MK_KERNEL static void mk_depthwise_conv2d_s8_codebook_dsp(const struct mk_depthwise_conv2d_s8_codebook_dsp *p,
                                                      const int8_t *const *in, int8_t *out, int rows) {
    const struct mk_expanded_dw3 *e = &p->expanded;
    struct mk_codebook_reader reader = mk_codebook_start(&p->codes);
    for (int group = 0, channel; (channel = mk_expanded_dw3_first(e, group)) < e->out_ch; ++group) {
        for (int i = 0; i < 4; ++i) {
            mk_codebook_rows(&reader, mk_expanded_dw3_weights(e), MK_DW3_TAPS, 1);
            mk_expanded_dw3_channel(e, group, i);
        }
        mk_depthwise_conv2d_s8_dsp_group(&p->conv, channel, in, out, rows);
    }
}
