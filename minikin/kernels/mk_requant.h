/* What goes from the sums of int8 layers to their outputs. */
struct mk_requant {
    int32_t out_offset, act_min, act_max;
    int32_t per_channel; /* 1: mult and shift hold one entry per output channel, 0: one in all */
    const int32_t *mult;
    const int8_t *shift;
    int32_t round_once; /* LiteRT's rounding instead of TFLite Micro's */
};

/* The output of channel o. */
__attribute__((unused)) static int8_t mk_requant_s8(const struct mk_requant *q, uint32_t acc, int o) {
    const int at = q->per_channel ? o : 0;
    const int32_t scaled = q->round_once ? mk_requantize_once((int32_t)acc, q->mult[at], q->shift[at])
                                         : mk_requantize((int32_t)acc, q->mult[at], q->shift[at]);
    return mk_offset_clamp(scaled, q->out_offset, q->act_min, q->act_max);
}
