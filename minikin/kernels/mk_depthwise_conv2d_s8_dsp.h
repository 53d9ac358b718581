/* The depthwise_conv2d of mk_depthwise_conv2d_s8.h for kernels of 3x3 on DSP instructions, four channels at a time.
 *
 * First the three input rows are widened, column by column, into six words: V of channel 0, R02, V2, V1, R13, V3, where V is
 * a channel's inputs in the upper and the middle row as halfwords and R the inputs of two channels in the lower row. Then
 * each channel goes along its columns: three dual multiply-adds and three single ones for nine taps.
 *
 * A group of four channels is 18 words: for each of the channels 0, 2, 1, 3 the bytes w00 w01 w10 w11, the bytes
 * w02 w20 w12 w21, mult, bias; then four bytes w22 and four bytes s in that order. The bias has the input's zero point folded
 * in. The last group may overlap the one before.
 *
 *     y = saturate((acc + bias) * mult + 2^30 + ((2 * offset + 1) << (31 + s)) >> (32 + s))
 *
 * is mk_requantize with shift -(s + 1), s >= 1, plus the offset; halves of negative values go up here and away from zero
 * there, which makes no difference where outputs are clamped at the offset (ReLU).
 *
 * The `fitted` form has five words for each channel instead, those two of bytes, mult, and a sum of 64 bits to start from;
 * then four bytes w22. It gives the same outputs for every sum that a channel can reach:
 *
 *     y = saturate(acc * mult + start >> 34)
 */
struct mk_depthwise_conv2d_s8_dsp {
    int32_t out_ch, out_w, stride_h, stride_w;
    int32_t zero;       /* what stands for an input outside the frame */
    int32_t columns;    /* of the widened rows: from the first column of the first window to the last of the last */
    int32_t first, end; /* those of them that lie in the frame */
    int32_t twice;      /* 2 * offset + 1 */
    int32_t fitted, act_min, act_max;
    const int32_t *stream;
    int32_t *buffer; /* scratch: the columns */
};

/* Four channels of one row of outputs. */
struct mk_dw3 {
    const int32_t *group, *buffer;
    int8_t *end;   /* behind the row's last pixel */
    int32_t bytes; /* from there to the first one: negative */
    int32_t twice;
    int32_t out_ch;
};

/* Words of a group. */
enum { MK_DW3_EXACT = 18, MK_DW3_FITTED = 21 };

#if MK_DSP

/* Frame: 0 lo, 4 hi, 8 mult, 12 out_ch, 16 s; 20 group, 24 buffer, 28 end, 32 bytes, 36 twice, 40 where w22 is, 44 pairs left.
 * r4-r6 weights of V by column, r7 and r8 those of R; r0 columns, r1 and lr outputs. */
#define MK_DW3_SETUP_EXACT                                                                                         \
    "ldr r0, [sp, #20]\n ldmia.w r0!, {r2, r3, r9, r10}\n str r0, [sp, #20]\n"                                     \
    "sxtb16 r4, r2\n sxtb16 r5, r2, ror #8\n sxtb16 r6, r3\n sxtb16 r7, r3, ror #8\n"                              \
    "ldrd r11, r12, [sp, #36]\n ldrsb r8, [r12], #1\n ldrb r0, [r12, #3]\n str r12, [sp, #40]\n"                   \
    "lsl.w r11, r11, r0\n smull r2, r3, r9, r10\n adds.w r2, r2, #0x40000000\n adc.w r3, r3, r11, asr #1\n"        \
    "strd r2, r3, [sp]\n str r9, [sp, #8]\n str r0, [sp, #16]\n"
#define MK_DW3_TAIL_EXACT                                                                                          \
    "ldm.w sp, {r3, r9, r10, r11, r12}\n smlal r3, r9, r2, r10\n asr.w r9, r9, r12\n ssat r9, #8, r9\n"

#define MK_DW3_SETUP_FITTED                                                                                        \
    "ldr r0, [sp, #20]\n ldmia.w r0!, {r2, r3, r9, r10, r11}\n str r0, [sp, #20]\n"                                \
    "sxtb16 r4, r2\n sxtb16 r5, r2, ror #8\n sxtb16 r6, r3\n sxtb16 r7, r3, ror #8\n stm.w sp, {r9, r10, r11}\n"   \
    "ldr r12, [sp, #40]\n ldrsb r8, [r12], #1\n str r12, [sp, #40]\n"
#define MK_DW3_TAIL_FITTED "ldm.w sp, {r3, r9, r10, r11}\n smlal r3, r9, r2, r10\n ssat r9, #8, r9, asr #2\n"

#define MK_DW3_CHANNEL(FORM, STEP, LOAD1, LOAD2, LOAD0, HALF, AT, OUT)                                             \
    MK_DW3_SETUP_##FORM                                                                                            \
    "ldrd r0, r1, [sp, #24]\n ldr lr, [sp, #32]\n add.w r0, r0, #" AT "\n add.w r1, r1, #" OUT "\n"                \
    "1:\n ldrd " LOAD1 ", [r0, #24]\n ldrd " LOAD2 ", [r0, #48]\n ldrd " LOAD0 ", [r0], #" STEP "\n"               \
    "smuad r2, r2, r4\n smlad r2, r9, r5, r2\n smlad r2, r11, r6, r2\n"                                            \
    "smla" HALF "b r2, r3, r7, r2\n smla" HALF "t r2, r10, r7, r2\n smla" HALF "b r2, r12, r8, r2\n"               \
    MK_DW3_TAIL_##FORM "strb.w r9, [r1, lr]\n adds.w lr, lr, r11\n bne 1b\n"

#define MK_DW3_BODY(FORM, STEP, BYTES_AT)                                                                          \
    "push {r4-r11, lr}\n sub sp, sp, #52\n ldmia.w r0, {r1, r2, r3, r4, r5, r6}\n str r6, [sp, #12]\n"             \
    "add r6, r1, #" BYTES_AT "\n mov r7, #2\n add r0, sp, #20\n stmia.w r0, {r1, r2, r3, r4, r5, r6, r7}\n 2:\n"   \
    MK_DW3_CHANNEL(FORM, STEP, "r9, r10", "r11, r12", "r2, r3", "b", "0", "0")                                     \
    MK_DW3_CHANNEL(FORM, STEP, "r10, r9", "r12, r11", "r3, r2", "t", "4", "2")                                     \
    "ldrd r0, r1, [sp, #24]\n add r0, r0, #12\n add r1, r1, #1\n strd r0, r1, [sp, #24]\n"                         \
    "ldr r0, [sp, #44]\n subs r0, r0, #1\n str r0, [sp, #44]\n bne.w 2b\n add sp, sp, #52\n pop {r4-r11, pc}\n"

MK_ASM void mk_dw3_stride1(MK_ARG const struct mk_dw3 *row) { __asm__(MK_DW3_BODY(EXACT, "24", "64")); }
MK_ASM void mk_dw3_stride2(MK_ARG const struct mk_dw3 *row) { __asm__(MK_DW3_BODY(EXACT, "48", "64")); }
MK_ASM void mk_dw3_stride1_fitted(MK_ARG const struct mk_dw3 *row) { __asm__(MK_DW3_BODY(FITTED, "24", "80")); }
MK_ASM void mk_dw3_stride2_fitted(MK_ARG const struct mk_dw3 *row) { __asm__(MK_DW3_BODY(FITTED, "48", "80")); }

#else

static inline void mk_dw3_channel(const struct mk_dw3 *row, int index, int channel, int step, int fitted) {
    static const int v_at[4] = {0, 3, 2, 5}, r_at[4] = {1, 4, 1, 4};
    const int32_t *record = row->group + (fitted ? 5 : 4) * index, *bytes = row->group + (fitted ? 20 : 16);
    const uint32_t w = (uint32_t)record[0], u = (uint32_t)record[1];
    const uint32_t taps[3] = {mk_sxtb16(w), mk_sxtb16_ror8(w), mk_sxtb16(u)}, lower = mk_sxtb16_ror8(u);
    const int32_t low[3] = {(int16_t)lower, (int16_t)(lower >> 16), (int8_t)((uint32_t)bytes[0] >> 8 * index)};
    const int s = fitted ? 2 : (uint32_t)bytes[1] >> 8 * index & 255;
    int64_t start = (int64_t)record[3] * record[2] + ((int64_t)1 << 30) + (int64_t)row->twice * ((int64_t)1 << (31 + s));
    if (fitted) start = (int64_t)((uint64_t)(uint32_t)record[3] << 32 | (uint32_t)record[2]);
    const int32_t *at = row->buffer;
    for (int32_t out = row->bytes; out != 0; out += row->out_ch, at += step) {
        uint32_t acc = 0;
        for (int k = 0; k < 3; ++k) {
            const uint32_t r = (uint32_t)at[6 * k + r_at[channel]];
            acc = mk_smlad((uint32_t)at[6 * k + v_at[channel]], taps[k], acc);
            acc += (uint32_t)((int16_t)(channel < 2 ? r : r >> 16) * low[k]);
        }
        const int64_t sum = start + (int64_t)(int32_t)acc * record[fitted ? 4 : 2];
        row->end[out + channel] = (int8_t)mk_clamp((int32_t)(sum >> (32 + s)), -128, 127);
    }
}

static inline void mk_dw3_channels(const struct mk_dw3 *row, int step, int fitted) {
    static const int order[4] = {0, 2, 1, 3};
    for (int i = 0; i < 4; ++i) mk_dw3_channel(row, i, order[i], step, fitted);
}

#endif

/* Widen `count` columns of four channels; the rows' pixels lie `step` apart. Gives the place behind them. */
#if MK_DSP
MK_ASM int32_t *mk_dw3_widen(MK_ARG int32_t *to, MK_ARG const int8_t *const *rows, MK_ARG int step, MK_ARG int count) {
    __asm__("push {r4-r11, lr}\n ldmia r1, {r4, r5, r6}\n mul lr, r2, r3\n add r4, r4, lr\n add r5, r5, lr\n"
            "add r6, r6, lr\n rsb lr, lr, #0\n"
            "1: ldr r7, [r4, lr]\n ldr r8, [r5, lr]\n ldr r10, [r6, lr]\n"
            "pkhbt r1, r7, r8, lsl #16\n pkhtb r7, r8, r7, asr #16\n"
            "sxtb16 r8, r1, ror #8\n sxtb16 r1, r1\n sxtb16 r11, r7, ror #8\n sxtb16 r7, r7\n"
            "sxtb16 r3, r10\n sxtb16 r10, r10, ror #8\n"
            "stmia.w r0!, {r1, r3, r7, r8, r10, r11}\n adds lr, lr, r2\n bne 1b\n pop {r4-r11, pc}\n");
}
#endif

/* The same where a row may be missing: its pixels lie 0 apart. */
static int32_t *mk_dw3_widen_border(int32_t *to, const int8_t *const *rows, const int *steps, int count) {
    const int8_t *upper = rows[0], *middle = rows[1], *lower = rows[2];
    for (; count > 0; --count, to += 6) {
        const uint32_t a = mk_load4(upper), b = mk_load4(middle), c = mk_load4(lower);
        const uint32_t low = mk_pkhbt16(a, b), high = mk_pkhtb16(b, a);
        to[0] = (int32_t)mk_sxtb16(low), to[1] = (int32_t)mk_sxtb16(c), to[2] = (int32_t)mk_sxtb16(high);
        to[3] = (int32_t)mk_sxtb16_ror8(low), to[4] = (int32_t)mk_sxtb16_ror8(c), to[5] = (int32_t)mk_sxtb16_ror8(high);
        upper += steps[0], middle += steps[1], lower += steps[2];
    }
    return to;
}

#if !MK_DSP
static int32_t *mk_dw3_widen(int32_t *to, const int8_t *const *rows, int step, int count) {
    const int steps[3] = {step, step, step};
    return mk_dw3_widen_border(to, rows, steps, count);
}
#endif

static void mk_dw3_fill(int32_t *from, const int32_t *end, int32_t value) {
    while (from != end) *from++ = value;
}

/* Four channels of a row of outputs. */
static inline void mk_dw3_row(const struct mk_depthwise_conv2d_s8_dsp *p, const int8_t *const *in, int channel,
                              const struct mk_dw3 *row) {
    int32_t *to = p->buffer + 6 * p->first;
    const int count = p->end - p->first;
    if (in[0] && in[1] && in[2]) {
        const int8_t *const from[3] = {in[0] + channel, in[1] + channel, in[2] + channel};
        mk_dw3_widen(to, from, p->out_ch, count);
    } else {
        const int8_t z = (int8_t)p->zero, missing[4] = {z, z, z, z};
        const int8_t *from[3];
        int steps[3];
        for (int i = 0; i < 3; ++i) {
            from[i] = in[i] ? in[i] + channel : missing;
            steps[i] = in[i] ? p->out_ch : 0;
        }
        mk_dw3_widen_border(to, from, steps, count);
    }
#if !MK_DSP
    mk_dw3_channels(row, 6 * p->stride_w, p->fitted);
#else
#ifdef MK_MAT_FAST
    if (p->fitted) {
        (p->stride_w == 1 ? mk_dw3_stride1_fitted : mk_dw3_stride2_fitted)(row);
        return;
    }
#endif
    (p->stride_w == 1 ? mk_dw3_stride1 : mk_dw3_stride2)(row);
#endif
}

MK_KERNEL static void mk_depthwise_conv2d_s8_dsp(const struct mk_depthwise_conv2d_s8_dsp *p, const int8_t *const *in,
                                                 int8_t *out, int rows) {
    const int32_t zeros = (int32_t)((uint32_t)p->zero << 16 | (uint32_t)(uint16_t)p->zero);
    mk_dw3_fill(p->buffer, p->buffer + 6 * p->first, zeros);
    mk_dw3_fill(p->buffer + 6 * p->end, p->buffer + 6 * p->columns, zeros);
    const int bytes = p->out_w * p->out_ch;
    struct mk_dw3 row = {p->stream, p->buffer, NULL, -bytes, p->twice, p->out_ch};
    int8_t *end = out;
    for (int r = 0; r < rows; ++r, in += p->stride_h) {
        end += bytes;
        row.group = p->stream;
        for (int c = 0; c < p->out_ch; c += 4, row.group += p->fitted ? MK_DW3_FITTED : MK_DW3_EXACT) {
            const int channel = mk_min(c, p->out_ch - 4);
            row.end = end + channel;
            mk_dw3_row(p, in, channel, &row);
        }
    }
    mk_clamp_row_s8(out, (int)(end - out), p->act_min, p->act_max);
}
