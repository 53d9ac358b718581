/* The conv2d of mk_conv2d_s8_dsp.h whose weights are packed: those of a few groups of four channels are expanded to scratch
 * memory, as the words that mk_mat_s8.h reads, then all pixels go by.
 *
 * Of each group's words, `numbers` are those that are no weights: four biases, five of the outputs. Where channels are no
 * multiple of four, the last group overlaps the one before.
 */
struct mk_expanded_dsp {
    int32_t out_ch, inputs; /* of a pixel */
    int32_t words;          /* of a group */
    int32_t most;           /* groups expanded together */
    const int32_t *numbers;
    int32_t *stream; /* scratch: [most][words] */
};

/* How many groups are expanded together from this one on; 0 behind the last. */
static inline int mk_expanded_dsp_groups(const struct mk_expanded_dsp *p, int group) {
    const int whole = p->out_ch >> 2;
    return group < whole ? mk_min(p->most, whole - group) : (p->out_ch & 3) > 0 && group == whole;
}

/* Weights of zero and what else the words of a group hold; gives the place of the weights, as halfwords.
 *
 * The halfword of input k is 8 * (k / 4) + MK_EXPANDED_AT(k) behind it for channels 0 and 1, two more for channels 2 and 3:
 * 256 * w1 + w0. */
#define MK_EXPANDED_AT(k) ((k) % 2 * 4 + (k) / 2 % 2)
MK_SHARED int16_t *mk_expanded_dsp_group(const struct mk_expanded_dsp *p, int group, int place) {
    const int32_t *numbers = p->numbers + MK_MAT_EXTRA * group;
    int32_t *const words = p->stream + place * p->words, *to = words;
    while (to != words + 4) *to++ = *numbers++;
    while (to != words + p->words - 5) *to++ = 0;
    while (to != words + p->words) *to++ = *numbers++;
    return (int16_t *)(words + 4);
}

/* Set the weight of input k of a channel from 0 to 3, whose lower neighbour's is there already. */
static inline void mk_expanded_dsp_set(int16_t *group, int channel, int k, int32_t weight) {
    int16_t *const to = group + 8 * (k >> 2) + MK_EXPANDED_AT(k & 3) + (channel & 2);
    *to = (int16_t)(channel & 1 ? *to + 256 * weight : weight);
}

/* Where the outputs of a group begin. */
static inline int mk_expanded_dsp_channel(const struct mk_expanded_dsp *p, int group) {
    return mk_min(4 * group, p->out_ch - 4);
}
