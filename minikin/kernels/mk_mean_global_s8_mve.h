/* The mean of mk_mean_global_s8.h with Helium's sums. */
struct mk_mean_global_s8_mve {
    int32_t in_h, in_w, in_ch;
    int32_t sum_offset, out_offset;
    int32_t mult, shift;
    int32_t *sums;
};

static void mk_mean_global_s8_mve(const struct mk_mean_global_s8_mve *p, const int8_t *in, int8_t *out, int row) {
    mk_mve_sum_row_s8(p->sums, in, p->in_w, p->in_ch, p->sum_offset, row == 0);
    if (row < p->in_h - 1) return;
    for (int c = 0; c < p->in_ch; ++c)
        out[c] = mk_offset_clamp(mk_requantize(p->sums[c], p->mult, p->shift), p->out_offset, INT8_MIN, INT8_MAX);
}
