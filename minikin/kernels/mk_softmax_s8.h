/* y = round(256 * exp(s * (x - max)) / sum) - 128 of `vectors` vectors of `depth`; s = mult * 2^(shift - 57).
 *
 * TFLite's SOFTMAX: exp in Q0.31 of a difference in Q5.26, summed in Q12.19; below diff_min exp counts as 0. The
 * output may lie over the input.
 */
struct mk_softmax_s8 {
    int32_t vectors, depth, mult, shift, diff_min;
};

/* exp of a difference in Q0.31; 0 below diff_min. */
MK_SHARED int32_t mk_softmax_s8_exp(const struct mk_softmax_s8 *p, int32_t diff) {
    return diff < p->diff_min ? 0 : mk_exp_q5(mk_requantize(diff, p->mult, p->shift));
}

MK_SMALL MK_KERNEL static void mk_softmax_s8(const struct mk_softmax_s8 *p, const int8_t *const *in, int8_t *out, int rows) {
    for (int r = 0; r < rows; ++r) {
        const int8_t *x = in[r];
        for (int v = 0; v < p->vectors; ++v, x += p->depth, out += p->depth) {
            int32_t max = x[0];
            for (int c = 1; c < p->depth; ++c) max = mk_max(max, x[c]);
            uint32_t sum = 0;
            for (int c = 0; c < p->depth; ++c) sum += (uint32_t)mk_shift_right(mk_softmax_s8_exp(p, x[c] - max), 12);
            int headroom = 0;
            while (!(sum & 0x80000000u)) sum <<= 1, ++headroom;
            int32_t scale = mk_one_over_one_plus((int32_t)(sum & INT32_MAX));
            int exponent = 35 - headroom; /* over 31 where the sum is over 512: then everything rounds to nothing */
            for (int c = 0; c < p->depth; ++c) {
                int32_t y = 0;
                if (exponent <= 31) y = mk_shift_right(mk_high_mul(scale, mk_softmax_s8_exp(p, x[c] - max)), exponent);
                out[c] = (int8_t)mk_min(y - 128, 127);
            }
        }
    }
}
