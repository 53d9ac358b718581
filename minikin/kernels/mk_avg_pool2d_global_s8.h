/* y[c] = clamp(round(sum (x + code_offset) / pixels) - code_offset), halves away from zero, over a whole frame
 *
 * Called for each of in_h input rows, in order; sums keeps one sum per channel between the calls, and the last call writes
 * the output. TFLite's AVERAGE_POOL_2D.
 */
struct mk_avg_pool2d_global_s8 {
    int32_t in_h, in_w, in_ch;
    int32_t act_min, act_max;
    int32_t code_offset; /* 128 where the codes were a uint8 model's, else 0 */
    int32_t *sums;
};

MK_DRIVER MK_KERNEL static void mk_avg_pool2d_global_s8(const struct mk_avg_pool2d_global_s8 *p, const int8_t *in, int8_t *out, int row) {
    const int32_t pixels = p->in_h * p->in_w;
    mk_sum_row_s8(p->sums, in, p->in_w, p->in_ch, row == 0 ? pixels * p->code_offset : 0, row == 0);
    if (row < p->in_h - 1) return;
    for (int c = 0; c < p->in_ch; ++c) {
        int32_t sum = p->sums[c], half = sum > 0 ? pixels / 2 : -(pixels / 2);
        out[c] = (int8_t)mk_clamp((sum + half) / pixels - p->code_offset, p->act_min, p->act_max);
    }
}
