/* A few output channels of a convolution at a time: their weights are expanded to scratch memory, then all pixels go by. */
struct mk_expanded {
    struct mk_patch patch;
    int32_t out_ch, in_offset;
    int32_t most; /* channels expanded together, at most four */
    struct mk_requant requant;
    int8_t *weight; /* scratch: [most][patch.size] */
};

/* The outputs of the channels [n, n + count) at every pixel, from their weights in scratch memory and their biases. */
__attribute__((unused)) static void mk_expanded_s8(const struct mk_expanded *p, const int8_t *const *in, int8_t *out,
                                                  int rows, int n, int count, const int32_t *bias) {
    const int size = p->patch.size;
    out += n;
    for (int r = 0; r < rows; ++r, in += p->patch.stride_h)
        for (int j = 0; j < p->patch.out_w; ++j, out += p->out_ch) {
            const int8_t *x = mk_patch_s8(&p->patch, in, j);
            uint32_t acc[4] = {0, 0, 0, 0};
            if (count == 4)
                mk_dot4_s8(acc, x, p->weight, size, size, p->in_offset);
            else
                for (int i = 0; i < count; ++i)
                    for (int k = 0; k < size; ++k) acc[i] += (uint32_t)((x[k] + p->in_offset) * p->weight[i * size + k]);
            for (int i = 0; i < count; ++i) out[i] = mk_requant_s8(&p->requant, acc[i] + (uint32_t)bias[i], n + i);
        }
}
