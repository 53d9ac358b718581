/* The convolution of mk_grouped.h whose weights and biases are entropy-coded (mk_coded.h). */
struct mk_grouped_conv2d_s8_coded {
    struct mk_grouped conv;
    struct mk_coded codes;
};

MK_KERNEL static void mk_grouped_conv2d_s8_coded(const struct mk_grouped_conv2d_s8_coded *p, const int8_t *const *in,
                                                 int8_t *out, int rows) {
    const struct mk_grouped *conv = &p->conv;
    struct mk_coded_reader reader = mk_coded_start(&p->codes);
    int32_t k = reader.gap; /* the input of the next weight */
    for (int o = 0; o < conv->out_ch; ++o) {
        const int32_t bias = mk_coded_bias(&reader);
        mk_coded_row(&reader, &k, conv->weight, conv->size);
        mk_grouped_s8(conv, in, out, rows, o, bias);
    }
}
