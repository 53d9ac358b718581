/* The dense of mk_dense_s8.h whose weights are gaps and nonzero weights (mk_sparse.h); products with zeros are left out. */
struct mk_dense_s8_sparse {
    int32_t batch, in_ch, out_ch;
    struct mk_requant requant;
    const int32_t *bias; /* with the input's zero point folded in */
    struct mk_sparse codes;
};

MK_KERNEL static void mk_dense_s8_sparse(const struct mk_dense_s8_sparse *p, const int8_t *in, int8_t *out) {
    for (int b = 0; b < p->batch; ++b, in += p->in_ch) {
        struct mk_sparse_reader reader = mk_sparse_start(&p->codes);
        for (int n = 0; n < p->out_ch; ++n) {
            const uint32_t acc = mk_sparse_row(&reader, in, p->in_ch);
            *out++ = mk_requant_s8(&p->requant, acc + (uint32_t)p->bias[n], n);
        }
    }
}
