/* depthwise_conv2d of 3x3, then conv2d of 1x1, on DSP instructions: rows of the first come in pairs, whose outputs are written as
 * the halfwords that the second multiplies (mk_mat_s8.h). A pixel of the upper row and the one below it are a pair. */
struct mk_separable_conv2d_s8_dsp {
    struct mk_depthwise_conv2d_s8_dsp depthwise;
    int32_t out_w, stride_h, last; /* the first channel of the depthwise layer's last group */
    int32_t quads, whole_words, scale, offset, out_ch, form, act_min, act_max;
    const int32_t *stream;
    int32_t *words; /* scratch: the pixels of all pairs of rows */
    int8_t *bytes;  /* scratch: those of a row without a partner; its channels come in groups, as in the words */
};

/* A row without a partner: pixels beside each other make pairs. */
static inline void mk_separable_conv2d_s8_dsp_row(const struct mk_separable_conv2d_s8_dsp *p, const struct mk_mat_s8 *mat,
                                                  const int8_t *const *in, int8_t *out) {
    const struct mk_dw3_to to = {p->bytes, 4 * p->quads, 4, 0};
    mk_dw3_rows(&p->depthwise, in, to, 0, 0, p->last);
    int32_t *words = p->words;
    const int8_t *from = p->bytes;
    for (int pairs = p->out_w >> 1; pairs > 0; --pairs, from += 8 * p->quads)
        words = mk_widen2(words, from, from + 4 * p->quads, p->quads);
    out = mk_mat2(mat, p->words, out, p->out_w >> 1);
    if (p->out_w & 1) {
        mk_widen1(p->words + 2, from, p->quads);
        mk_mat1(mat, p->words + 2, 0, out);
    }
}

MK_KERNEL static void mk_separable_conv2d_s8_dsp(const struct mk_separable_conv2d_s8_dsp *p, const int8_t *const *in, int8_t *out,
                                                 int rows) {
    const int row = p->out_w * p->out_ch, pairs = rows >> 1, whole = mk_dw3_pairs(&p->depthwise, rows);
    struct mk_mat_s8 mat = mk_mat(p->stream, p->stream + p->whole_words, p->quads, p->scale, p->offset, p->out_ch, p->form);
    struct mk_dw3_to to = {(int8_t *)p->words, 16 * p->quads, 16, 1};
    mk_dw3_pad(&p->depthwise, whole);
    if (whole) {
        mk_dw3_rows(&p->depthwise, in, to, whole, 0, p->last);
    } else {
        for (int r = 0; r < 2 * pairs; ++r, to.out += r & 1 ? 4 : p->out_w * to.step - 4)
            mk_dw3_rows(&p->depthwise, in + r * p->stride_h, to, 0, 0, p->last);
    }
    const int32_t *words = p->words;
    int8_t *pixels = out;
    mat.beside = row, mat.step = p->out_ch;
    for (int b = 0; b < pairs; ++b, words += 4 * p->quads * p->out_w, pixels += 2 * row) mk_mat2(&mat, words, pixels, p->out_w);
    if (rows & 1) {
        mat.beside = p->out_ch, mat.step = 2 * p->out_ch;
        mk_separable_conv2d_s8_dsp_row(p, &mat, in + 2 * pairs * p->stride_h, pixels);
    }
    mk_clamp_row_s8(out, rows * row, p->act_min, p->act_max);
}
