/* The sums of mk_add_s8.h, or the differences, with products of 32 bits: floor(a_mult * a / 2^8) by its high and low bits.
 *
 *     y = clamp(floor(a_mult * a / 2^8) + floor(b_mult * b / 2^8) + start >> 21)
 *
 * is the same for all 65,536 pairs of codes: `fit_sum` in ops/elementwise.py tries them.
 */
struct mk_add_s8_x4 {
    int32_t row_elems, a_mult, b_mult, start, act_min, act_max;
};

static void mk_add_s8_x4(const struct mk_add_s8_x4 *p, const int8_t *const *in, const int8_t *const *in1, int8_t *out, int rows) {
    const int32_t a1 = p->a_mult >> 8, a0 = p->a_mult & 255, b1 = p->b_mult >> 8, b0 = p->b_mult & 255;
    for (int r = 0; r < rows; ++r) {
        const int8_t *a = in[r], *b = in1[r];
        for (const int8_t *end = a + p->row_elems; a != end; ++a, ++b, ++out) {
            const int32_t sum = *a * a1 + (*a * a0 >> 8) + *b * b1 + (*b * b0 >> 8) + p->start;
            *out = (int8_t)mk_clamp(sum >> 21, p->act_min, p->act_max);
        }
    }
}
