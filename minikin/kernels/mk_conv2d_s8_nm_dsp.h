/* The conv2d of mk_expanded_dsp.h whose weights are the nonzero ones of each block of four (mk_blocks.h). */
struct mk_conv2d_s8_nm_dsp {
    struct mk_conv2d_s8_dsp conv;
    struct mk_expanded_dsp expanded;
    struct mk_blocks codes;
};

/* The weights of the next channel of a group. Two of a block may have the same place if one of them is zero: they are added. */
MK_SHARED void mk_conv2d_s8_nm_dsp_row(struct mk_blocks_reader *reader, int16_t *to, int channel, int inputs) {
    struct mk_blocks_reader r = *reader;
    const int scale = channel & 1 ? 256 : 1, count = r.count;
    uint32_t places = 0;
    int left = 0;
    to += channel & 2;
    for (int k = 0; k < inputs; k += 4, to += 8)
        for (int i = 0; i < count; ++i, --left, places >>= 2) {
            if (left == 0) places = *r.places++, left = 4;
            int16_t *const own = to + MK_EXPANDED_AT(places & 3);
            *own = (int16_t)(*own + scale * *r.values++);
        }
    *reader = r;
}

MK_KERNEL static void mk_conv2d_s8_nm_dsp(const struct mk_conv2d_s8_nm_dsp *p, const int8_t *const *in, int8_t *out, int rows) {
    const struct mk_expanded_dsp *e = &p->expanded;
    struct mk_blocks_reader reader = mk_blocks_start(&p->codes);
    for (int group = 0, count; (count = mk_expanded_dsp_groups(e, group)) > 0; group += count) {
        for (int i = 0; i < count; ++i) {
            int16_t *const to = mk_expanded_dsp_group(e, group + i, i);
            for (int channel = 0; channel < 4; ++channel) mk_conv2d_s8_nm_dsp_row(&reader, to, channel, e->inputs);
        }
        mk_conv2d_s8_dsp_groups(&p->conv, count, mk_expanded_dsp_channel(e, group), in, out, rows);
    }
}
