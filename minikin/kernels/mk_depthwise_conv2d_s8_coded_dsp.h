/* The depthwise_conv2d of mk_expanded_dw3.h whose weights are entropy-coded (mk_coded.h); biases are not. */
struct mk_depthwise_conv2d_s8_coded_dsp {
    struct mk_depthwise_conv2d_s8_dsp conv;
    struct mk_expanded_dw3 expanded;
    struct mk_coded codes;
};

MK_KERNEL static void mk_depthwise_conv2d_s8_coded_dsp(const struct mk_depthwise_conv2d_s8_coded_dsp *p,
                                                      const int8_t *const *in, int8_t *out, int rows) {
    const struct mk_expanded_dw3 *e = &p->expanded;
    struct mk_coded_reader reader = mk_coded_start(&p->codes);
    int32_t k = reader.gap; /* the input of the next weight */
    for (int group = 0, channel; (channel = mk_expanded_dw3_first(e, group)) < e->out_ch; ++group) {
        for (int i = 0; i < 4; ++i) {
            mk_coded_row(&reader, &k, mk_expanded_dw3_weights(e), MK_DW3_TAPS);
            mk_expanded_dw3_channel(e, group, i);
        }
        mk_depthwise_conv2d_s8_dsp_group(&p->conv, channel, in, out, rows);
    }
}
