/* A convolution whose output channels read some input channels each, one output channel at a time: its weights are expanded to
 * scratch memory, then all pixels go by. Channel o reads input channels o / group_out * group_in and so on, group_in of them; a
 * depthwise one reads one. Taps outside the frame add nothing. See mk_conv2d_s8.h.
 */
struct mk_grouped {
    int32_t in_w, in_ch, out_w;
    int32_t kernel_h, kernel_w, stride_h, stride_w, pad_left, dilation_h, dilation_w;
    int32_t out_ch, group_in, group_out, in_offset;
    int32_t size; /* weights of a channel */
    struct mk_requant requant;
    int8_t *weight; /* scratch: [kernel_h][kernel_w][group_in] */
};

/* The sum of the taps of one kernel row, their inputs `step` apart. */
MK_SHARED uint32_t mk_grouped_line(const int8_t *tap, const int8_t *w, const int8_t *end, int step, int group_in, int32_t offset) {
    uint32_t acc = 0;
    for (; w != end; tap += step) {
        const int8_t *const last = w + group_in;
        for (const int8_t *x = tap; w != last;) acc += (uint32_t)((*x++ + offset) * *w++);
    }
    return acc;
}

/* The outputs of channel o at every pixel, from its weights in scratch memory and its bias. */
__attribute__((unused)) static void mk_grouped_s8(const struct mk_grouped *p, const int8_t *const *in, int8_t *out, int rows,
                                                 int o, int32_t bias) {
    const int group_in = p->group_in, step = p->dilation_w * p->in_ch, channel = o / p->group_out * group_in;
    out += o;
    for (int r = 0; r < rows; ++r, in += p->stride_h)
        for (int j = 0, first = -p->pad_left; j < p->out_w; ++j, first += p->stride_w, out += p->out_ch) {
            const int lo = first >= 0 ? 0 : mk_tap_lo(first, p->dilation_w, p->kernel_w);
            const int hi = mk_tap_hi(first, p->dilation_w, p->kernel_w, p->in_w);
            const int at = first * p->in_ch + lo * step + channel;
            uint32_t acc = (uint32_t)bias;
            for (int ky = 0; ky < p->kernel_h && lo < hi; ++ky) {
                const int8_t *const row = in[ky * p->dilation_h], *const w = p->weight + ky * p->kernel_w * group_in;
                if (row) acc += mk_grouped_line(row + at, w + lo * group_in, w + hi * group_in, step, group_in, p->in_offset);
            }
            *out = mk_requant_s8(&p->requant, acc, o);
        }
}
