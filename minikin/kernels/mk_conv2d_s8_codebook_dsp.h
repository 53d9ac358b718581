/* The conv2d of mk_expanded_dsp.h whose weights are indices of a codebook: as in mk_codebook.h, but that inputs are filled up to
 * whole quads.
 */
struct mk_conv2d_s8_codebook_dsp {
    struct mk_conv2d_s8_dsp conv;
    struct mk_expanded_dsp expanded;
    int32_t bits; /* 1 to 5 */
    const uint8_t *indices;
    const int8_t *codebook;
};

/* Four indices of `bits` bits from bit `at` on; they lie in the 32 bits from their first byte on. */
static inline void mk_conv2d_s8_codebook_dsp_input(const uint8_t *indices, uint32_t at, uint32_t bits, const int8_t *codebook,
                                                   int16_t *to) {
    const uint32_t word = mk_load4((const int8_t *)indices + (at >> 3)) >> (at & 7), mask = (1u << bits) - 1;
    to[0] = (int16_t)(codebook[word & mask] + 256 * codebook[word >> bits & mask]);
    to[2] = (int16_t)(codebook[word >> 2 * bits & mask] + 256 * codebook[word >> 3 * bits & mask]);
}

/* The weights of a group. */
static inline void mk_conv2d_s8_codebook_dsp_group(const struct mk_conv2d_s8_codebook_dsp *p, const uint8_t *indices,
                                                   int16_t *to, int quads) {
    const uint32_t bits = (uint32_t)p->bits;
    const int8_t *const codebook = p->codebook;
    for (; quads > 0; --quads, indices += 2 * bits, to += 8) {
        mk_conv2d_s8_codebook_dsp_input(indices, 0, bits, codebook, to + MK_EXPANDED_AT(0));
        mk_conv2d_s8_codebook_dsp_input(indices, 4 * bits, bits, codebook, to + MK_EXPANDED_AT(1));
        mk_conv2d_s8_codebook_dsp_input(indices, 8 * bits, bits, codebook, to + MK_EXPANDED_AT(2));
        mk_conv2d_s8_codebook_dsp_input(indices, 12 * bits, bits, codebook, to + MK_EXPANDED_AT(3));
    }
}

MK_KERNEL static void mk_conv2d_s8_codebook_dsp(const struct mk_conv2d_s8_codebook_dsp *p, const int8_t *const *in,
                                                int8_t *out, int rows) {
    const struct mk_expanded_dsp *e = &p->expanded;
    const int quads = (e->inputs + 3) >> 2;
    const uint8_t *indices = p->indices;
    for (int group = 0, count; (count = mk_expanded_dsp_groups(e, group)) > 0; group += count) {
        for (int i = 0; i < count; ++i, indices += 2 * p->bits * quads) {
            int16_t *const to = mk_expanded_dsp_group(e, group + i, i);
            mk_conv2d_s8_codebook_dsp_group(p, indices, to, quads);
            for (int k = e->inputs; k < 4 * quads; ++k)
                for (int channel = 0; channel < 4; channel += 2) mk_expanded_dsp_set(to, channel, k, 0);
        }
        mk_conv2d_s8_dsp_groups(&p->conv, count, mk_expanded_dsp_channel(e, group), in, out, rows);
    }
}
