/* The dense of mk_dense_s8.h whose weights are a bitmask and nonzero weights (mk_bitmask.h); products with zeros are left out. */
struct mk_dense_s8_bitmask {
    int32_t batch, in_ch, out_ch;
    struct mk_requant requant;
    const int32_t *bias; /* with the input's zero point folded in */
    struct mk_bitmask codes;
};

MK_KERNEL static void mk_dense_s8_bitmask(const struct mk_dense_s8_bitmask *p, const int8_t *in, int8_t *out) {
    for (int b = 0; b < p->batch; ++b, in += p->in_ch) {
        struct mk_bitmask_reader reader = mk_bitmask_start(&p->codes);
        for (int n = 0; n < p->out_ch; ++n) {
            const uint32_t acc = mk_bitmask_row(&reader, in, p->in_ch);
            *out++ = mk_requant_s8(&p->requant, acc + (uint32_t)p->bias[n], n);
        }
    }
}
