/* The conv2d of mk_conv2d_s8.h, without groups, whose weights are the nonzero ones of each block of four (mk_blocks.h). */
struct mk_conv2d_s8_nm {
    struct mk_patch patch;
    int32_t out_ch;
    struct mk_requant requant;
    const int32_t *bias; /* with the input's zero point folded in */
    struct mk_blocks codes;
};

MK_KERNEL static void mk_conv2d_s8_nm(const struct mk_conv2d_s8_nm *p, const int8_t *const *in, int8_t *out,
                                         int rows) {
    for (int r = 0; r < rows; ++r, in += p->patch.stride_h)
        for (int j = 0; j < p->patch.out_w; ++j) {
            const int8_t *x = mk_patch_s8(&p->patch, in, j);
            struct mk_blocks_reader reader = mk_blocks_start(&p->codes);
            for (int n = 0; n < p->out_ch; ++n) {
                const uint32_t acc = mk_blocks_row(&reader, x, p->patch.size);
                *out++ = mk_requant_s8(&p->requant, acc + (uint32_t)p->bias[n], n);
            }
        }
}
