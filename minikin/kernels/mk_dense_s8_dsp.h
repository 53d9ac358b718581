/* The dense of mk_dense_s8.h on DSP instructions: one row of inputs at a time is multiplied by mk_mat_s8.h. */
struct mk_dense_s8_dsp {
    int32_t batch, in_ch;
    int32_t out_ch, quads, whole_words, scale, offset, form, act_min, act_max;
    const int32_t *stream;
    int8_t *filled; /* scratch: a row filled up to whole quads, null where it has no need */
};

MK_DRIVER MK_KERNEL static void mk_dense_s8_dsp(const struct mk_dense_s8_dsp *p, const int8_t *in, int8_t *out) {
    const struct mk_mat_s8 mat =
        mk_mat(p->stream, p->stream + p->whole_words, p->quads, p->scale, p->offset, p->out_ch, p->form);
    int8_t *to = out;
    for (int b = 0; b < p->batch; ++b, in += p->in_ch) {
        if (p->filled) {
            int8_t *end = mk_append_s8(p->filled, in, 0, p->in_ch);
            mk_fill_s8(end, 0, 4 * p->quads - p->in_ch);
        }
        to = mk_mat1(&mat, p->filled ? p->filled : in, to);
    }
    mk_clamp_row_s8(out, (int)(to - out), p->act_min, p->act_max);
}
