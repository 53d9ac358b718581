/* The conv2d of mk_expanded_dsp.h whose weights are entropy-coded (mk_coded.h); biases are not. */
struct mk_conv2d_s8_coded_dsp {
    struct mk_conv2d_s8_dsp conv;
    struct mk_expanded_dsp expanded;
    struct mk_coded codes;
};

MK_KERNEL static void mk_conv2d_s8_coded_dsp(const struct mk_conv2d_s8_coded_dsp *p, const int8_t *const *in, int8_t *out,
                                             int rows) {
    const struct mk_expanded_dsp *e = &p->expanded;
    struct mk_coded_reader reader = mk_coded_start(&p->codes);
    int32_t k = reader.gap; /* the input of the next weight */
    for (int group = 0, count; (count = mk_expanded_dsp_groups(e, group)) > 0; group += count) {
        for (int i = 0; i < count; ++i) {
            int16_t *const to = mk_expanded_dsp_group(e, group + i, i);
            for (int channel = 0; channel < 4; ++channel, k -= e->inputs)
                for (; k < e->inputs; k += 1 + reader.gap) {
                    const int32_t weight = mk_coded_value(&reader);
                    mk_expanded_dsp_set(to, channel, k, weight);
                }
        }
        mk_conv2d_s8_dsp_groups(&p->conv, count, mk_expanded_dsp_channel(e, group), in, out, rows);
    }
}
