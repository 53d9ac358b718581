/* The depthwise_conv2d of mk_depthwise_conv2d_s8_dsp.h whose weights are packed: those of four channels are expanded to the words
 * that it reads, then all pixels go by. The weights of a channel come in the order of those words.
 *
 * Of each group's words, `numbers` are those that are no weights: two words for each channel, then the last bytes of all four.
 */
struct mk_expanded_dw3 {
    int32_t out_ch;
    const int32_t *numbers;
    int32_t *stream; /* scratch: a group's words, then the weights of a channel */
};

enum { MK_DW3_NUMBERS = 9, MK_DW3_TAPS = 9 };

static inline int8_t *mk_expanded_dw3_weights(const struct mk_expanded_dw3 *p) { return (int8_t *)(p->stream + MK_DW3_GROUP); }

/* A channel of a group, from its weights. */
MK_SHARED void mk_expanded_dw3_channel(const struct mk_expanded_dw3 *p, int group, int channel) {
    const int32_t *const numbers = p->numbers + MK_DW3_NUMBERS * group;
    const int8_t *const weights = mk_expanded_dw3_weights(p);
    int32_t *const record = p->stream + 4 * channel;
    int8_t *const last = (int8_t *)(p->stream + 16) + 2 * channel;
    __builtin_memcpy(record, weights, 8);
    record[2] = numbers[2 * channel], record[3] = numbers[2 * channel + 1];
    last[0] = weights[8], last[1] = (int8_t)(numbers[8] >> 8 * channel);
}

/* The first channel of a group, the last of which may overlap the one before; out_ch behind them. */
static inline int mk_expanded_dw3_first(const struct mk_expanded_dw3 *p, int group) {
    return 4 * group < p->out_ch ? mk_min(4 * group, p->out_ch - 4) : p->out_ch;
}
