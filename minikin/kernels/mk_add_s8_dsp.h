/* The sums of mk_add_s8.h on DSP instructions. Of the inputs, `l` has the larger scale: its wide form is (l + offset) * 2^19
 * without rounding, as its multiplier is a half. That of `r` is rounded, so
 *
 *     x = 2 * (wide(l) + wide(r)) = (((t + (t < 0 ? -1 : 0)) >> r_shift) + odd & ~1) + l * 2^20
 *     t = round((r * r_factor + r_offset) * r_mult / 2^32),   odd = 1 + l_offset * 2^20
 *     y = saturate((round(x * mult / 2^32) + (twice << shift) >> shift) >> 1)
 */
struct mk_add_s8_dsp {
    int32_t row_elems, swapped; /* 1: l is the second input */
    int32_t r_factor, r_offset, r_mult, r_shift, odd;
    int32_t mult, shift, twice, is_signed, act_min, act_max;
};

static inline void mk_add_s8_dsp_row(const struct mk_add_s8_dsp *p, const int8_t *l, const int8_t *r, int8_t *out,
                                     int is_signed) {
    const int32_t factor = p->r_factor, offset = p->r_offset, r_mult = p->r_mult, odd = p->odd, mult = p->mult;
    const int32_t round = p->twice * (1 << p->shift);
    const int r_shift = p->r_shift, shift = p->shift;
    for (const int8_t *end = l + p->row_elems; l != end;) {
        int32_t t = mk_smmulr(*r++ * factor + offset, r_mult);
        t = (((t + (t >> 31)) >> r_shift) + odd) & ~1;
        int32_t high = mk_smmulr(t + *l++ * (1 << 20), mult);
        if (is_signed) high += high >> 31;
        *out++ = mk_ssat8_half((high + round) >> shift);
    }
}

MK_KERNEL static void mk_add_s8_dsp(const struct mk_add_s8_dsp *p, const int8_t *const *in, const int8_t *const *in1,
                                    int8_t *out, int rows) {
    int8_t *to = out;
    for (int r = 0; r < rows; ++r, to += p->row_elems) {
        const int8_t *left = p->swapped ? in1[r] : in[r], *right = p->swapped ? in[r] : in1[r];
        if (p->is_signed)
            mk_add_s8_dsp_row(p, left, right, to, 1);
        else
            mk_add_s8_dsp_row(p, left, right, to, 0);
    }
    mk_clamp_row_s8(out, (int)(to - out), p->act_min, p->act_max);
}
