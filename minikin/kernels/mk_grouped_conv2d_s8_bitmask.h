/* The convolution of mk_grouped.h whose weights are a bitmask and nonzero weights (mk_bitmask.h). */
struct mk_grouped_conv2d_s8_bitmask {
    struct mk_grouped conv;
    const int32_t *bias;
    struct mk_bitmask codes;
};

MK_KERNEL static void mk_grouped_conv2d_s8_bitmask(const struct mk_grouped_conv2d_s8_bitmask *p, const int8_t *const *in,
                                                   int8_t *out, int rows) {
    const struct mk_grouped *conv = &p->conv;
    struct mk_bitmask_reader reader = mk_bitmask_start(&p->codes);
    for (int o = 0; o < conv->out_ch; ++o) {
        mk_bitmask_expand(&reader, conv->weight, conv->size);
        mk_grouped_s8(conv, in, out, rows, o, p->bias[o]);
    }
}
