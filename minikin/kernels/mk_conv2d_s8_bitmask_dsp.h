/* The conv2d of mk_expanded_dsp.h whose weights are a bitmask and nonzero weights (mk_bitmask.h). */
struct mk_conv2d_s8_bitmask_dsp {
    struct mk_conv2d_s8_dsp conv;
    struct mk_expanded_dsp expanded;
    struct mk_bitmask codes;
};

/* The weights of the next channel of a group. */
MK_SHARED void mk_conv2d_s8_bitmask_dsp_row(struct mk_bitmask_reader *reader, int16_t *to, int channel, int inputs) {
    struct mk_bitmask_reader r = *reader;
    for (int first = 0; first < inputs; first += 8) {
        int k = first;
        for (uint32_t mask = *r.mask++; mask; mask >>= 1, ++k)
            if (mask & 1) mk_expanded_dsp_set(to, channel, k, mk_codebook_value(&r.codes));
    }
    *reader = r;
}

MK_KERNEL static void mk_conv2d_s8_bitmask_dsp(const struct mk_conv2d_s8_bitmask_dsp *p, const int8_t *const *in, int8_t *out,
                                               int rows) {
    const struct mk_expanded_dsp *e = &p->expanded;
    struct mk_bitmask_reader reader = mk_bitmask_start(&p->codes);
    for (int group = 0, count; (count = mk_expanded_dsp_groups(e, group)) > 0; group += count) {
        for (int i = 0; i < count; ++i) {
            int16_t *const to = mk_expanded_dsp_group(e, group + i, i);
            for (int channel = 0; channel < 4; ++channel) mk_conv2d_s8_bitmask_dsp_row(&reader, to, channel, e->inputs);
        }
        mk_conv2d_s8_dsp_groups(&p->conv, count, mk_expanded_dsp_channel(e, group), in, out, rows);
    }
}
