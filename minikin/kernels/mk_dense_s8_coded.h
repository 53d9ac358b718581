/* The dense of mk_dense_s8.h whose weights and biases are entropy-coded (mk_coded.h): each is used as it is decoded. */
struct mk_dense_s8_coded {
    int32_t batch, in_ch, out_ch, in_offset;
    struct mk_requant requant;
    struct mk_coded codes;
};

MK_KERNEL static void mk_dense_s8_coded(const struct mk_dense_s8_coded *p, const int8_t *in, int8_t *out) {
    for (int b = 0; b < p->batch; ++b, in += p->in_ch) {
        struct mk_coded_reader reader = mk_coded_start(&p->codes);
        int32_t k = reader.gap; /* the input of the next weight */
        for (int n = 0; n < p->out_ch; ++n, k -= p->in_ch) {
            uint32_t acc = (uint32_t)mk_coded_bias(&reader);
            for (; k < p->in_ch; k += 1 + reader.gap) acc += (uint32_t)((in[k] + p->in_offset) * mk_coded_value(&reader));
            *out++ = mk_requant_s8(&p->requant, acc, n);
        }
    }
}
