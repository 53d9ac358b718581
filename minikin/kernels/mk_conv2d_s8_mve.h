/* The conv2d of mk_conv2d_s8.h on Helium. A row's inputs are copied column by column, those of all kernel rows one behind the
 * other, padding included: a window is then one run of bytes, and so is the next one, some columns on. Where the
 * kernel has one row and no padding the windows are read in place; only the last few, behind which 16 bytes at a time would
 * run over the row's end, are copied.
 */
struct mk_conv2d_s8_mve {
    int32_t in_w, in_ch, out_w, stride_h, stride_w, pad_left, dilation_h, kernel_h, kernel_w;
    int32_t zero;    /* what stands for an input outside the frame */
    int32_t columns; /* that a row of outputs reads, padding included */
    int32_t copied;  /* pixels of a row that are copied where the windows are read in place; -1: they never are */
    int32_t run;     /* bytes of the columns, narrower than a vector, that are copied at a time; 0: column by column */
    const int8_t *places; /* where the bytes of a run go */
    int32_t out_ch, vectors, offset, is_signed, act_min, act_max;
    const int32_t *stream;
    int8_t *buffer;
};

/* The columns of padding of all kernel rows, which stay as they are from row to row. */
static void mk_conv2d_s8_mve_padding(const struct mk_conv2d_s8_mve *p, int before, int inside) {
    const int step = p->kernel_h * p->in_ch, behind = p->columns - before - inside;
    int8_t *const buffer = p->buffer; /* a null pointer in the code of a network that copies none */
    mk_mve_fill_runs(buffer, 0, before * step, 1, p->zero);
    mk_mve_fill_runs(buffer + (before + inside) * step, 0, behind * step, 1, p->zero);
}

/* The columns of the frame in one kernel row; a null row is padding. */
static inline void mk_conv2d_s8_mve_row(const struct mk_conv2d_s8_mve *p, const int8_t *row, int8_t *to, int inside) {
    const int step = p->kernel_h * p->in_ch;
    if (!row)
        mk_mve_fill_runs(to, step, p->in_ch, inside, p->zero);
    else if (p->run)
        mk_mve_scatter_runs(to, p->run * p->kernel_h, row, p->run, p->places, inside * p->in_ch);
    else
        mk_mve_copy_runs(to, step, row, p->in_ch, p->in_ch, inside);
}

MK_KERNEL static void mk_conv2d_s8_mve(const struct mk_conv2d_s8_mve *p, const int8_t *const *in, int8_t *out, int rows) {
    struct mk_mat_mve mat = {p->stream, p->vectors, p->out_ch, p->offset, p->stride_w * p->in_ch};
    int8_t *to = out;
    const int before = mk_min(p->pad_left, p->columns), inside = mk_min(p->in_w, p->columns - before);
    int8_t *const buffer = p->buffer, *const columns = p->copied < 0 ? buffer + before * p->kernel_h * p->in_ch : NULL;
    if (columns) mat.step *= p->kernel_h, mk_conv2d_s8_mve_padding(p, before, inside);
    for (int left = rows, pixels; left > 0; to += pixels * p->out_ch) {
        const int8_t *row = *in;
        pixels = p->out_w;
        --left, in += p->stride_h;
        if (columns) {
            for (int ky = 0; ky < p->kernel_h; ++ky)
                mk_conv2d_s8_mve_row(p, (in - p->stride_h)[ky * p->dilation_h], columns + ky * p->in_ch, inside);
            mk_mat_mve(&mat, p->buffer, to, pixels, p->is_signed);
            continue;
        }
        while (left > 0 && *in == row + pixels * mat.step) --left, in += p->stride_h, pixels += p->out_w;
        const int direct = pixels - p->copied, width = 16 * p->vectors;
        mk_mat_mve(&mat, row, to, direct, p->is_signed);
        if (!p->copied) continue;
        struct mk_mat_mve last = mat;
        last.step = width;
        mk_mve_copy_runs(p->buffer, width, row + direct * mat.step, mat.step, p->kernel_w * p->in_ch, p->copied);
        mk_mat_mve(&last, p->buffer, to + direct * p->out_ch, p->copied, p->is_signed);
    }
    mk_clamp_row_s8(out, (int)(to - out), p->act_min, p->act_max);
}
