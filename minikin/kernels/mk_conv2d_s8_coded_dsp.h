/* The conv2d of mk_conv2d_s8_coded.h on DSP instructions. */
struct mk_conv2d_s8_coded_dsp {
    struct mk_expanded_dsp conv;
    struct mk_coded codes;
};

MK_KERNEL static void mk_conv2d_s8_coded_dsp(const struct mk_conv2d_s8_coded_dsp *p, const int8_t *const *in, int8_t *out,
                                             int rows) {
    const struct mk_expanded_dsp *conv = &p->conv;
    const int size = conv->patch.size;
    struct mk_coded_reader reader = mk_coded_start(&p->codes);
    int32_t k = reader.gap; /* the input of the next weight */
    for (int n = 0, count; n < conv->out_ch; n += count) {
        int32_t bias[4];
        count = mk_min(4, conv->out_ch - n);
        for (int i = 0; i < 16 * conv->quads; ++i) conv->weight[i] = 0;
        for (int i = 0; i < count; ++i, k -= size) {
            int32_t sum = 0;
            const int32_t own = mk_coded_bias(&reader);
            while (k < size) {
                const int32_t weight = mk_coded_value(&reader);
                conv->weight[mk_expanded_dsp_at(k) + 4 * i] = (int16_t)weight;
                sum += weight;
                k += 1 + reader.gap;
            }
            bias[i] = (int32_t)((uint32_t)own - (uint32_t)(conv->patch.zero * sum));
        }
        mk_expanded_dsp_s8(conv, in, out, rows, n, count, bias);
    }
}
