/* The conv2d of mk_conv2d_s8.h, without groups, whose weights and biases are entropy-coded (mk_coded.h). */
struct mk_conv2d_s8_coded {
    struct mk_expanded conv;
    struct mk_coded codes;
};

MK_KERNEL static void mk_conv2d_s8_coded(const struct mk_conv2d_s8_coded *p, const int8_t *const *in, int8_t *out,
                                         int rows) {
    const struct mk_expanded *conv = &p->conv;
    const int size = conv->patch.size;
    struct mk_coded_reader reader = mk_coded_start(&p->codes);
    int32_t k = reader.gap; /* the input of the next weight */
    for (int n = 0, count; n < conv->out_ch; n += count) {
        int32_t bias[4];
        count = mk_min(conv->most, conv->out_ch - n);
        for (int i = 0; i < count; ++i) {
            bias[i] = mk_coded_bias(&reader);
            mk_coded_row(&reader, &k, conv->weight + i * size, size);
        }
        mk_expanded_s8(conv, in, out, rows, n, count, bias);
    }
}
