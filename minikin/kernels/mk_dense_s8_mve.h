/* The dense of mk_dense_s8.h on Helium: mk_mat_mve.h over rows of inputs, filled up to 16 bytes where they are not. */
struct mk_dense_s8_mve {
    int32_t batch, in_ch, out_ch, vectors, offset, is_signed, act_min, act_max;
    const int32_t *stream;
    int8_t *filled;
};

MK_KERNEL static void mk_dense_s8_mve(const struct mk_dense_s8_mve *p, const int8_t *in, int8_t *out) {
    const struct mk_mat_mve mat = {p->stream, p->vectors, p->out_ch, p->offset, p->in_ch};
    if (!p->filled) {
        mk_mat_mve(&mat, in, out, p->batch, p->is_signed);
    } else {
        for (int b = 0; b < p->batch; ++b) {
            mk_mve_copy_runs(p->filled, 0, in + b * p->in_ch, 0, p->in_ch, 1);
            mk_mat_mve(&mat, p->filled, out + b * p->out_ch, 1, p->is_signed);
        }
    }
    mk_clamp_row_s8(out, p->batch * p->out_ch, p->act_min, p->act_max);
}
