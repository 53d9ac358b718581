/* y[n] = clamp(sum_k x[k] * weight[n][k] + bias[n]); x is [batch][in_ch], y is [batch][out_ch]; bias may be null.
 *
 * The weights are blocks of eight outputs, [in_ch][8], then the outputs left over, [in_ch] each.
 */
struct mk_dense_f32 {
    int32_t batch, in_ch, out_ch;
    float act_min, act_max;
    const float *weight;
    const uint16_t *half; /* the weights, where they are halves; then weight is null */
    const float *bias;
};

static void mk_dense_f32(const struct mk_dense_f32 *p, const float *in, float *out) {
    for (int b = 0; b < p->batch; ++b, in += p->in_ch) {
        const struct mk_window_f32 at = {&in, 1, 0, 0, 0, 0, 1, p->in_ch, 0, 0, mk_zeros_f32,
                                         mk_clamps_f32(p->act_min, p->act_max), p->act_min, p->act_max, 0};
        mk_weights_f32 w = mk_weights_of_f32(p->weight, p->half);
        const float *bias = p->bias ? p->bias : mk_zeros_f32;
        int left = p->out_ch;
        for (; left >= MK_LANES; left -= MK_LANES, w = mk_behind_f32(w, MK_LANES * p->in_ch), out += MK_LANES) {
            mk_mat1_f32(out, &at, w, 0, bias);
            if (p->bias) bias += MK_LANES;
        }
        for (; left > 0; --left, w = mk_behind_f32(w, p->in_ch), ++out) {
            *out = mk_clamp_f32(mk_sum_f32(&at, w, 0, 1) + *bias, p->act_min, p->act_max);
            if (p->bias) ++bias;
        }
    }
}
