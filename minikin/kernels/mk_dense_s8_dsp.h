/* The dense of mk_dense_s8.h on DSP instructions: one row of inputs at a time is multiplied by mk_mat_s8.h, widened first or
 * as it is.
 */
struct mk_dense_s8_dsp {
    int32_t batch, in_ch, narrow; /* whether inputs stay bytes */
    int32_t out_ch, quads, whole_words, scale, offset, form, act_min, act_max;
    const int32_t *stream;
    int32_t *words; /* scratch: a row widened, behind two words where its quads are odd */
    int8_t *filled; /* scratch: narrow inputs filled up to whole quads, null where they have no need */
};

/* A row of inputs as the products take it. */
static inline const void *mk_dense_s8_dsp_row(const struct mk_dense_s8_dsp *p, const int8_t *in) {
    if (!p->narrow) {
        int8_t last[4] = {0, 0, 0, 0};
        mk_append_s8(last, in, p->in_ch & ~3, p->in_ch & 3);
        mk_widen1(mk_widen1(p->words, in, p->in_ch >> 2), last, p->quads - (p->in_ch >> 2));
        return p->words;
    }
    if (!p->filled) return in;
    int8_t *const end = mk_append_s8(p->filled, in, 0, p->in_ch);
    mk_fill_s8(end, 0, 4 * p->quads - p->in_ch);
    return p->filled;
}

MK_DRIVER MK_KERNEL static void mk_dense_s8_dsp(const struct mk_dense_s8_dsp *p, const int8_t *in, int8_t *out) {
    const struct mk_mat_s8 mat =
        mk_mat(p->stream, p->stream + p->whole_words, p->quads, p->scale, p->offset, p->out_ch, p->form);
    int8_t *to = out;
    for (int b = 0; b < p->batch; ++b, in += p->in_ch) to = mk_mat1(&mat, mk_dense_s8_dsp_row(p, in), p->narrow, to);
    mk_clamp_row_s8(out, (int)(to - out), p->act_min, p->act_max);
}
