/* The depthwise_conv2d of mk_depthwise_conv2d_s8.h for any kernel on DSP instructions, four channels at a time.
 *
 * First input rows are widened, two by two: of each column the four channels' words, the upper row's input in the lower
 * halfword. Where the kernel has an odd number of rows, the last one is its own partner: a word holds two of its columns, half
 * a kernel apart. Then a dual multiply-add takes two taps of a channel: 13 of them an output of 5x5. Several rows of outputs
 * share what they both read; each begins `row_step` bytes behind the one before.
 *
 * A group of four channels is, in the stream: biases, with the input's zero point folded in; for each pair of taps a, b the
 * bytes a0 a1 b0 b1, then a2 a3 b2 b3; mult; one byte for each channel, s. The last group may overlap the one before. Outputs
 * have the exact form of mk_mat_s8.h. A group's table in scratch memory is what a pixel reads: biases; of each run of
 * adjacent columns where its code begins, its weights, how far it is to the next; mult, scale >> s, offset.
 */
struct mk_depthwise_conv2d_s8_taps_dsp {
    int32_t out_ch, out_w, stride_h;
    int32_t window_h; /* input rows from the first tap to the last */
    int32_t zero, padded; /* what stands for an input outside the frame; whether any does */
    int32_t columns;      /* that are widened, of all pairs of rows */
    int32_t blank_words, table_words; /* of scratch memory, behind the columns: a row of padding, the table */
    int32_t segments, row_step, group_words;
    int32_t scale, offset, act_min, act_max;
    const int16_t *places; /* of each segment, by place: the row of outputs that reads it first; row and partner's row (-1: none), column
                              of each; first of the widened columns, count */
    const int32_t *runs;   /* of each run: pairs of taps, bytes from its end to the next one's begin; behind them 0 */
    const int32_t *stream;
    int32_t *buffer; /* scratch: widened columns, a row of padding, the table, segments */
};

/* Columns to be widened, and how far it is from one to the next: 0 in a row of padding. */
struct mk_dwt_segment {
    int32_t *to;
    const int8_t *a, *b;
    int32_t step_a, step_b, count;
};

/* Outputs of four channels, row behind row. */
struct mk_dwt_group {
    const int32_t *stream, *runs;
    int32_t *table;
    int32_t scale, offset;
    int8_t *out;
    int32_t out_ch;
    const int8_t *end; /* the place behind the first row's last pixel */
    const int32_t *x;
    int32_t row_step, row_bytes, rows;
};

#if MK_DSP

/* Segments from r0 to r1 of the channels from r2 on: r3 to, r4 and r5 inputs, r6 and r7 steps, r8 pairs of columns. */
#define MK_DWT_COLUMN                                                                                              \
    "pkhbt r11, r9, r10, lsl #16\n pkhtb r12, r10, r9, asr #16\n sxtb16 r9, r11\n sxtb16 r10, r11, ror #8\n"       \
    "sxtb16 r11, r12\n sxtb16 r12, r12, ror #8\n stmia.w r3!, {r9, r10, r11, r12}\n"
MK_ASM void mk_dwt_widen(MK_ARG const struct mk_dwt_segment *segment, MK_ARG const struct mk_dwt_segment *end,
                         MK_ARG int channel) {
    __asm__("push {r4-r11, lr}\n"
            "1: ldmia.w r0!, {r3, r4, r5, r6, r7, r8}\n add r4, r4, r2\n add r5, r5, r2\n lsrs.w r8, r8, #1\n"
            "bcc 2f\n add.w r8, r8, #1\n sub.w r4, r4, r6\n sub.w r5, r5, r7\n b 3f\n"
            "2: ldr.w r9, [r4]\n ldr.w r10, [r5]\n" MK_DWT_COLUMN
            "3: ldr.w r9, [r4, r6]\n ldr.w r10, [r5, r7]\n add.w r4, r4, r6, lsl #1\n add.w r5, r5, r7, lsl #1\n" MK_DWT_COLUMN
            "subs.w r8, r8, #1\n bne 2b\n cmp r0, r1\n bne 1b\n pop {r4-r11, pc}\n");
}

/* Make the table, then all outputs. r0 inputs, r1 table, r4-r7 sums.
 * Frame: 0 table, 4 out, 8 out_ch, 12 end, 16 x, 20 row_step, 24 row_bytes, 28 rows. */
#define MK_DWT_TAP                                                                                                 \
    "ldmia.w r0!, {r8, r9, r10, r11}\n ldmia.w r1!, {r2, r3, r12, lr}\n"                                           \
    "smlad r4, r8, r2, r4\n smlad r5, r9, r3, r5\n smlad r6, r10, r12, r6\n smlad r7, r11, lr, r7\n"
#define MK_DWT_TAP_BYTES "24"
#define MK_DWT_HIGH(sum, mult) "smmlar " sum ", " sum ", " mult ", " sum "\n"
#define MK_DWT_OUT(sum, scale) "smmlar " sum ", " sum ", " scale ", r10\n"
MK_ASM void mk_dwt_rows(MK_ARG const struct mk_dwt_group *group) {
    __asm__("push {r4-r11, lr}\n sub sp, sp, #32\n"
            "ldmia.w r0, {r1, r2, r3}\n ldmia.w r1!, {r4, r5, r6, r7}\n stmia.w r3!, {r4, r5, r6, r7}\n"
            "adr.w r12, 4f\n orr r12, r12, #1\n mov.w r11, #" MK_DWT_TAP_BYTES "\n"
            "6: ldr.w r10, [r2], #4\n cmp.w r10, #0\n beq 7f\n mls r9, r10, r11, r12\n str r9, [r3], #4\n"
            "8: ldmia.w r1!, {r5, r7}\n sxtb16 r4, r5\n sxtb16 r5, r5, ror #8\n sxtb16 r6, r7\n sxtb16 r7, r7, ror #8\n"
            "stmia.w r3!, {r4, r5, r6, r7}\n subs.w r10, r10, #1\n bne 8b\n"
            "ldr.w r10, [r2], #4\n str r10, [r3], #4\n b 6b\n"
            "7: adr.w r12, 5f\n orr r12, r12, #1\n str r12, [r3], #4\n"
            "ldmia.w r1, {r4, r5, r6, r7, r8}\n stmia.w r3!, {r4, r5, r6, r7}\n ldrd r10, r11, [r0, #12]\n"
            "lsr.w r4, r10, r8\n lsr.w r8, r8, #8\n lsr.w r5, r10, r8\n lsr.w r8, r8, #8\n lsr.w r6, r10, r8\n"
            "lsr.w r8, r8, #8\n lsr.w r7, r10, r8\n stmia.w r3, {r4, r5, r6, r7, r11}\n"
            "ldr.w r8, [r0, #8]\n adds r0, #20\n ldmia.w r0, {r0, r1, r2, r3, r4, r5, r6}\n add.w r9, sp, #4\n"
            "stmia.w r9, {r0, r1, r2, r3, r4, r5, r6}\n mov r0, r3\n mov r1, r8\n str r1, [sp]\n"
            "1: ldmia.w r1!, {r4, r5, r6, r7, pc}\n"
            ".balign 4\n" MK_DWT_TAP MK_DWT_TAP MK_DWT_TAP MK_DWT_TAP MK_DWT_TAP MK_DWT_TAP MK_DWT_TAP MK_DWT_TAP
            "4: ldrd r2, r3, [r1], #8\n add r0, r0, r2\n bx r3\n"
            ".balign 4\n 5: ldmia.w r1!, {r8, r9, r10, r11}\n"
            MK_DWT_HIGH("r4", "r8") MK_DWT_HIGH("r5", "r9") MK_DWT_HIGH("r6", "r10") MK_DWT_HIGH("r7", "r11")
            "ldmia.w r1, {r2, r3, r8, r9, r10}\n"
            MK_DWT_OUT("r4", "r2") MK_DWT_OUT("r5", "r3") MK_DWT_OUT("r6", "r8") MK_DWT_OUT("r7", "r9")
            "ssat r4, #8, r4\n ssat r5, #8, r5\n ssat r6, #8, r6\n ssat r7, #8, r7\n"
            "ldm.w sp, {r1, r2, r3, r12}\n strb r4, [r2]\n strb r5, [r2, #1]\n strb r6, [r2, #2]\n strb r7, [r2, #3]\n"
            "add r2, r2, r3\n str r2, [sp, #4]\n cmp r2, r12\n bne.w 1b\n"
            "ldrd r0, r2, [sp, #16]\n add r0, r0, r2\n str r0, [sp, #16]\n ldrd r2, r3, [sp, #24]\n add r12, r12, r2\n"
            "str.w r12, [sp, #12]\n subs r3, r3, #1\n str r3, [sp, #28]\n bne.w 1b\n"
            "add sp, sp, #32\n pop {r4-r11, pc}\n");
}

#else

static void mk_dwt_widen(const struct mk_dwt_segment *segment, const struct mk_dwt_segment *end, int channel) {
    for (; segment != end; ++segment) {
        const int8_t *a = segment->a + channel, *b = segment->b + channel;
        int32_t *to = segment->to;
        for (int i = segment->count; i > 0; --i, a += segment->step_a, b += segment->step_b) {
            const uint32_t x = mk_load4(a), y = mk_load4(b), low = mk_pkhbt16(x, y), high = mk_pkhtb16(y, x);
            *to++ = (int32_t)mk_sxtb16(low), *to++ = (int32_t)mk_sxtb16_ror8(low);
            *to++ = (int32_t)mk_sxtb16(high), *to++ = (int32_t)mk_sxtb16_ror8(high);
        }
    }
}

/* Reads the stream itself: no table. */
static void mk_dwt_pixels(const struct mk_dwt_group *group, const int32_t *x, int8_t *out, const int8_t *end) {
    for (; out != end; out += group->out_ch) {
        const int32_t *w = group->stream;
        uint32_t sums[4];
        for (int i = 0; i < 4; ++i) sums[i] = (uint32_t)*w++;
        for (const int32_t *run = group->runs; *run; x += run[1] / 4, run += 2)
            for (int taps = *run; taps > 0; --taps, x += 4, w += 2)
                for (int i = 0; i < 4; ++i) {
                    const uint32_t bytes = (uint32_t)w[i / 2];
                    sums[i] = mk_smlad((uint32_t)x[i], i % 2 ? mk_sxtb16_ror8(bytes) : mk_sxtb16(bytes), sums[i]);
                }
        for (int i = 0; i < 4; ++i) {
            const int32_t high = (int32_t)(sums[i] + (uint32_t)mk_smmulr((int32_t)sums[i], w[i]));
            const int32_t scale = (int32_t)((uint32_t)group->scale >> ((uint32_t)w[4] >> 8 * i & 255));
            out[i] = (int8_t)mk_clamp(mk_smmulr(high, scale) + group->offset, -128, 127);
        }
    }
}

static void mk_dwt_rows(const struct mk_dwt_group *group) {
    for (int r = 0, at = 0; r < group->rows; ++r, at += group->row_bytes)
        mk_dwt_pixels(group, group->x + r * (group->row_step / 4), group->out + at, group->end + at);
}

#endif

static struct mk_dwt_segment mk_dwt_segment(const struct mk_depthwise_conv2d_s8_taps_dsp *p, const int8_t *const *in,
                                            int in_rows, const int16_t *place, const int8_t *blank) {
    const int8_t *a = place[1] < 0 ? NULL : in[place[1]];
    const int8_t *b = place[2] < 0 || place[2] >= in_rows ? NULL : in[place[2]]; /* of the last tap of a column: none */
    const struct mk_dwt_segment segment = {
        p->buffer + 4 * place[5], a ? a + place[3] * p->out_ch : blank, b ? b + place[4] * p->out_ch : blank,
        a ? p->out_ch : 0, b ? p->out_ch : 0, place[6]};
    return segment;
}

static void mk_dwt_fill(int32_t *from, const int32_t *end, int32_t value) {
    for (; from != end; from += 4) from[0] = from[1] = from[2] = from[3] = value;
}

MK_KERNEL static void mk_depthwise_conv2d_s8_taps_dsp(const struct mk_depthwise_conv2d_s8_taps_dsp *p, const int8_t *const *in,
                                                      int8_t *out, int rows) {
    const int out_ch = p->out_ch, row_bytes = p->out_w * out_ch, in_rows = (rows - 1) * p->stride_h + p->window_h;
    const int16_t *const end = p->places + 7 * p->segments;
    int32_t *const blank = p->buffer + 4 * p->columns, *const table = blank + p->blank_words;
    struct mk_dwt_group group = {p->stream, p->runs, table, p->scale, p->offset, NULL, out_ch, NULL, p->buffer, p->row_step, row_bytes,
                                 rows};
    if (p->padded) {
        const uint32_t half = (uint32_t)p->zero & 0xFFFF, byte = (uint32_t)p->zero & 0xFF;
        int32_t *at = p->buffer;
        for (const int16_t *place = p->places; place != end; place += 7) {
            int32_t *const to = p->buffer + 4 * place[5];
            mk_dwt_fill(at, to, (int32_t)(half << 16 | half));
            at = to + 4 * place[6];
        }
        mk_dwt_fill(at, blank, (int32_t)(half << 16 | half));
        mk_dwt_fill(blank, table, (int32_t)(byte * 0x01010101u));
    }
#if MK_DSP
    struct mk_dwt_segment *const segments = (struct mk_dwt_segment *)(table + p->table_words);
    int count = 0;
    for (const int16_t *place = p->places; place != end; place += 7)
        if (*place < rows) segments[count++] = mk_dwt_segment(p, in, in_rows, place, (const int8_t *)blank);
#endif
    for (int channel = 0, last = out_ch - 4;; group.stream += p->group_words) {
#if MK_DSP
        mk_dwt_widen(segments, segments + count, channel);
#else
        for (const int16_t *place = p->places; place != end; place += 7)
            if (*place < rows) {
                const struct mk_dwt_segment segment = mk_dwt_segment(p, in, in_rows, place, (const int8_t *)blank);
                mk_dwt_widen(&segment, &segment + 1, channel);
            }
#endif
        group.out = out + channel, group.end = group.out + row_bytes;
        mk_dwt_rows(&group);
        if (channel == last) break;
        channel = mk_min(channel + 4, last);
    }
    mk_clamp_row_s8(out, rows * row_bytes, p->act_min, p->act_max);
}
