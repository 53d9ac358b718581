/* The dense of mk_dense_s8.h by mk_mat_x4.h. */
struct mk_dense_s8_x4 {
    int32_t batch, in_ch, out_ch, low, act_min, act_max;
    const int32_t *stream;
};

MK_KERNEL static void mk_dense_s8_x4(const struct mk_dense_s8_x4 *p, const int8_t *in, int8_t *out) {
    const struct mk_mat_x4 mat = {p->stream, p->in_ch, p->out_ch, p->low, p->act_min, p->act_max};
    for (int n = p->batch; n > 0; --n, in += p->in_ch, out += p->out_ch) mk_mat_x4(&mat, in, out);
}
