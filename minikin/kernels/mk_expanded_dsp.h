/* Four output channels of a convolution at a time, on DSP instructions: their weights are expanded to halfwords in scratch
 * memory, then all pixels go by.
 *
 * weight[(quad * 4 + channel) * 4 + place]: the weights of inputs 0, 2, 1, 3 of each quad; those of missing inputs are zero.
 */
struct mk_expanded_dsp {
    struct mk_patch patch;
    int32_t out_ch, quads;
    struct mk_requant requant;
    int16_t *weight; /* scratch */
};

/* Where the weight of input k lies in that of a channel. */
static inline int mk_expanded_dsp_at(int k) { return (k & ~3) * 4 + (k & 1) * 2 + (k >> 1 & 1); }

/* acc[i] = sum_k x[k] * (weights of channel i); x has whole quads. */
__attribute__((unused)) static void mk_expanded_dsp_dot(uint32_t acc[4], const int8_t *x, const int16_t *weight, int quads) {
    const int8_t *w = (const int8_t *)weight;
    uint32_t a0 = 0, a1 = 0, a2 = 0, a3 = 0;
    for (; quads > 0; --quads, x += 4, w += 32) {
        const uint32_t word = mk_load4(x), even = mk_sxtb16(word), odd = mk_sxtb16_ror8(word);
        a0 = mk_smlad(odd, mk_load4(w + 4), mk_smlad(even, mk_load4(w), a0));
        a1 = mk_smlad(odd, mk_load4(w + 12), mk_smlad(even, mk_load4(w + 8), a1));
        a2 = mk_smlad(odd, mk_load4(w + 20), mk_smlad(even, mk_load4(w + 16), a2));
        a3 = mk_smlad(odd, mk_load4(w + 28), mk_smlad(even, mk_load4(w + 24), a3));
    }
    acc[0] = a0, acc[1] = a1, acc[2] = a2, acc[3] = a3;
}

/* The outputs of the channels [n, n + count) at every pixel, from their weights and from biases with the input's zero point
 * folded in. */
__attribute__((unused)) static void mk_expanded_dsp_s8(const struct mk_expanded_dsp *p, const int8_t *const *in,
                                                      int8_t *out, int rows, int n, int count, const int32_t *bias) {
    out += n;
    for (int r = 0; r < rows; ++r, in += p->patch.stride_h)
        for (int j = 0; j < p->patch.out_w; ++j, out += p->out_ch) {
            uint32_t acc[4];
            mk_expanded_dsp_dot(acc, mk_patch_s8(&p->patch, in, j), p->weight, p->quads);
            for (int i = 0; i < count; ++i) out[i] = mk_requant_s8(&p->requant, acc[i] + (uint32_t)bias[i], n + i);
        }
}
