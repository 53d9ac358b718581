/* The depthwise_conv2d of mk_depthwise_conv2d_s8.h for kernels of 3x3 on DSP instructions, four channels at a time, two rows
 * of outputs at a time where the stride is 1.
 *
 * First four input rows are widened, column by column, into two words for each channel: the inputs of rows 0 and 1 as
 * halfwords, and those of rows 2 and 3. Then each channel goes along its columns. The upper output takes a dual
 * multiply-add by (w0, w1) and a single one by w2 for each column of taps, the lower one w0 and (w1, w2); two columns of
 * outputs share what they read.
 *
 * A group of four channels is 18 words: for each channel the bytes w00 w01 w10 w11, the bytes w02 w21 w12 w20, mult,
 * 256 * bias + the addend's lower byte; then for each channel the bytes w22 and the addend's upper one. The bias has the
 * input's zero point folded in. The last group may overlap the one before.
 *
 *     y = saturate(((acc + bias) * mult >> 32) + addend >> 3)
 *
 * is the same as mk_requantize, plus the offset, for every sum that the channel can reach: see ops/fitting.py. Where a layer
 * has no such numbers (without an activation, as a rule), outputs have the exact form of mk_mat_s8.h: then a channel has
 * its whole bias, and its s where the addend's upper byte was.
 *
 * Outputs are bytes, or where mk_separable_conv2d_s8_dsp.h multiplies them at once (MK_DW3_WORDS) halfwords: those of a pair of
 * rows lie as mk_mat_s8.h takes pairs of pixels, the upper row's word of two channels beside the lower one's, 16 bytes for
 * each group of four channels.
 */
struct mk_depthwise_conv2d_s8_dsp {
    int32_t out_ch, out_w, stride_h, stride_w;
    int32_t zero;       /* what stands for an input outside the frame */
    int32_t columns;    /* of the widened rows: from the first column of the first window to the last of the last */
    int32_t first, end; /* those of them that lie in the frame */
    int32_t exact, scale, offset; /* the form of the outputs */
    int32_t act_min, act_max;
    const int32_t *stream;
    int32_t *buffer; /* scratch: the columns of each pair of rows */
};

/* Four channels of `blocks` pairs of rows of outputs, or of one row. */
struct mk_dw3 {
    const int32_t *group, *buffer;
    int8_t *end;     /* behind the first row's last pixel */
    int32_t bytes;   /* from there to its first one: negative */
    int32_t blocks;  /* 0: one row */
    int32_t step;    /* from a pixel to the next */
    int32_t stride_w;
    int32_t odd;     /* of a row's pixels, those without a partner: 0 or 1 */
#ifdef MK_DW3_EXACT
    int32_t scale, offset;
#endif
};

enum { MK_DW3_GROUP = 18, MK_DW3_COLUMN = 8 }; /* words */

#if MK_DSP

/* Frame: 0 bias four times, 16 mult, 20 addend, 24 ends of both rows, 32 step, 36 group, 40 buffer, 44 end, 48 bytes,
 * 52 blocks, 56 where w22 is, 60 channels left, as bits, 64 blocks left, 68 stride_w, 72 odd; exact: 20 scale >> s, 76 scale, 80 offset.
 * r4-r6 (w0, w1) of each column of taps, r7-r9 (w1, w2); r0 inputs, r1 outputs, counted from the ends of their rows. */
#define MK_DW3_ENTER(FRAME, MORE, CHANNELS)                                                                        \
    "push {r4-r11, lr}\n sub sp, sp, #" FRAME "\n" MORE                                                            \
    "ldmia.w r0, {r1, r2, r3, r4, r5, r6, r7, r8}\n str r6, [sp, #32]\n"                                           \
    "strd r7, r8, [sp, #68]\n add.w r6, r1, #64\n mov.w r7, #" CHANNELS "\n add.w r0, sp, #36\n"                        \
    "stmia.w r0, {r1, r2, r3, r4, r5, r6, r7}\n 2:\n"
/* Then r2 bias, r11 mult, r10 addend. */
#define MK_DW3_SETUP(NUMBERS)                                                                                      \
    "ldr.w r0, [sp, #36]\n ldmia.w r0!, {r2, r3, r11, r12}\n str r0, [sp, #36]\n ldr.w lr, [sp, #56]\n"            \
    "ldrsh r10, [lr], #2\n str.w lr, [sp, #56]\n"                                                                  \
    "sxtb16 r4, r2\n sxtb16 r5, r2, ror #8\n sxtb16 r6, r3\n sxtb16 r3, r3, ror #8\n"                              \
    "pkhtb r7, r3, r4, asr #16\n lsl.w r3, r3, #16\n sxtb r2, r10\n lsl.w r2, r2, #16\n"                            \
    "pkhtb r8, r3, r5, asr #16\n pkhtb r9, r2, r6, asr #16\n" NUMBERS
#define MK_DW3_NEXT(FRAME, PLACE)                                                                                  \
    "ldr r2, [sp, #60]\n lsrs r2, r2, #1\n str r2, [sp, #60]\n ldrd r0, r2, [sp, #40]\n add.w r0, r0, #8\n" PLACE  \
    "strd r0, r2, [sp, #40]\n bne.w 2b\n add sp, sp, #" FRAME "\n pop {r4-r11, pc}\n"

/* What differs where outputs are bytes: the lower row's end, two rows further, the next channel, and the bits of four channels. */
#define MK_DW3_BYTES(M, ...) M(__VA_ARGS__, "strb.w", "sub.w r3, r2, r10\n", ", lsl #1", "add.w r2, r2, #1\n", "8")
/* Halfwords: the channels of a group lie at 0, 8, 2 and 10 of a pixel's first word. */
#define MK_DW3_HALVES(M, ...)                                                                                      \
    M(__VA_ARGS__, "strh.w", "add.w r3, r2, #4\n", "", "ite cs\n addcs.w r2, r2, #8\n subcc.w r2, r2, #6\n", "13")

/* One column of taps, whose inputs are in r2 and r3, of an upper and a lower output. */
#define MK_DW3_BOTH(upper, lower, w01, w12)                                                                        \
    "smlad " upper ", r2, " w01 ", " upper "\n smlabt " upper ", r3, " w12 ", " upper "\n"                         \
    "smlatb " lower ", r2, " w01 ", " lower "\n smlad " lower ", r3, " w12 ", " lower "\n"
#define MK_DW3_OUT(sum) "smmla " sum ", " sum ", r2, r3\n"
#define MK_DW3_SAT(sum) "ssat " sum ", #8, " sum ", asr #3\n"
#define MK_DW3_OUTS2 "ldrd r2, r3, [sp, #16]\n" MK_DW3_OUT("r10") MK_DW3_OUT("r11") MK_DW3_SAT("r10") MK_DW3_SAT("r11")
#define MK_DW3_OUTS4                                                                                               \
    "ldrd r2, r3, [sp, #16]\n" MK_DW3_OUT("r10") MK_DW3_OUT("r11") MK_DW3_OUT("r12") MK_DW3_OUT("lr")              \
    MK_DW3_SAT("r10") MK_DW3_SAT("r11") MK_DW3_SAT("r12") MK_DW3_SAT("lr")

/* The bias and the addend of a fitted channel. */
#define MK_DW3_FITTED(bias) "asr.w " bias ", r12, #8\n bfi r10, r12, #0, #8\n"

#define MK_DW3_PAIRS(FRAME, MORE, NUMBERS, OUTS2, OUTS4, STORE, LOWER, ROWS, PLACE, CHANNELS)                      \
    MK_DW3_ENTER(FRAME, MORE, CHANNELS) MK_DW3_SETUP(NUMBERS)                                                      \
    "mov.w r3, r2\n strd r2, r3, [sp]\n strd r2, r3, [sp, #8]\n strd r11, r10, [sp, #16]\n"                        \
    "ldrd r0, r2, [sp, #40]\n ldrd r10, r11, [sp, #48]\n" LOWER "strd r2, r3, [sp, #24]\n"         \
    "str.w r11, [sp, #64]\n"                                                                                       \
    "4: ldr r1, [sp, #48]\n ldr r2, [sp, #72]\n cmp r2, #0\n beq 3f\n"                                             \
    "ldrd r10, r11, [sp]\n"                                                                                        \
    "ldrd r2, r3, [r0], #32\n" MK_DW3_BOTH("r10", "r11", "r4", "r7")                                               \
    "ldrd r2, r3, [r0]\n" MK_DW3_BOTH("r10", "r11", "r5", "r8")                                                    \
    "ldrd r2, r3, [r0, #32]\n" MK_DW3_BOTH("r10", "r11", "r6", "r9")                                               \
    OUTS2                                                                               \
    "ldrd r2, r3, [sp, #24]\n" STORE " r10, [r2, r1]\n" STORE " r11, [r3, r1]\n ldr r2, [sp, #32]\n"               \
    "adds r1, r1, r2\n beq 5f\n"                                                                                   \
    "3: ldm.w sp, {r10, r11, r12, lr}\n"                                                                           \
    "ldrd r2, r3, [r0], #64\n" MK_DW3_BOTH("r10", "r11", "r4", "r7")                                               \
    "ldrd r2, r3, [r0, #-32]\n" MK_DW3_BOTH("r10", "r11", "r5", "r8") MK_DW3_BOTH("r12", "lr", "r4", "r7")         \
    "ldrd r2, r3, [r0]\n" MK_DW3_BOTH("r10", "r11", "r6", "r9") MK_DW3_BOTH("r12", "lr", "r5", "r8")               \
    "ldrd r2, r3, [r0, #32]\n" MK_DW3_BOTH("r12", "lr", "r6", "r9")                                                \
    OUTS4                                                                               \
    "ldrd r2, r3, [sp, #24]\n" STORE " r10, [r2, r1]\n" STORE " r11, [r3, r1]\n ldr.w r10, [sp, #32]\n"            \
    "adds.w r1, r1, r10\n" STORE " r12, [r2, r1]\n" STORE " lr, [r3, r1]\n adds.w r1, r1, r10\n bne 3b\n"          \
    "5: ldr r1, [sp, #64]\n subs r1, r1, #1\n beq 6f\n str r1, [sp, #64]\n add.w r0, r0, #64\n"                    \
    "ldrd r2, r3, [sp, #24]\n ldr.w r10, [sp, #48]\n sub.w r2, r2, r10" ROWS "\n sub.w r3, r3, r10" ROWS "\n"      \
    "strd r2, r3, [sp, #24]\n b 4b\n 6:\n" MK_DW3_NEXT(FRAME, PLACE)

MK_ASM void mk_dw3_pairs_fitted(MK_ARG const struct mk_dw3 *rows) {
    __asm__(MK_DW3_BYTES(MK_DW3_PAIRS, "76", "", MK_DW3_FITTED("r2"), MK_DW3_OUTS2, MK_DW3_OUTS4));
}

/* Frame: 0 buffer, 4 bytes, 8 where w22 is, 12 end, 16 step, 20 end of the group's records, 24 loop's address.
 * r4-r6 (w0, w1) of each column of taps, r7 (w21, w20), r8 w22; r9 records, r10 addend, r11 mult, r12 sum, lr bias. */
#define MK_DW3_LINE(STEP, AT1, AT2, OUT, STORE)                                                                       \
    "ldrd r2, r3, [r0], #" STEP "\n smlad r12, r2, r4, lr\n smlabt r12, r3, r7, r12\n"                             \
    "ldrd r2, r3, [r0, #" AT1 "]\n smlad r12, r2, r5, r12\n smlabb r12, r3, r7, r12\n"                             \
    "ldrd r2, r3, [r0, #" AT2 "]\n smlad r12, r2, r6, r12\n smlabb r12, r3, r8, r12\n"                             \
    OUT "ldrd r2, r3, [sp, #12]\n " STORE " r12, [r2, r1]\n adds r1, r1, r3\n"

#define MK_DW3_ROW(FRAME, MORE, NUMBERS, OUT, STORE, BEFORE, PLACE)                                                \
    "push {r4-r11, lr}\n sub sp, sp, #" FRAME "\n" MORE "ldmia.w r0, {r1, r2, r3, r4, r5, r6, r7}\n mov.w r9, r1\n"  \
    "add.w r1, r1, #64\n sub.w r2, r2, #8\n " BEFORE " strd r2, r4, [sp]\n strd r1, r3, [sp, #8]\n"         \
    "strd r6, r1, [sp, #16]\n adr.w r0, 3f\n adr.w r1, 4f\n cmp r7, #1\n it ne\n movne r0, r1\n orr r0, r0, #1\n"  \
    "str r0, [sp, #24]\n"                                                                                          \
    "2: ldm.w sp, {r0, r1, r8, lr}\n add.w r0, r0, #8\n ldrsh r10, [r8], #2\n " PLACE                                \
    "stm.w sp, {r0, r1, r8, lr}\n ldmia.w r9!, {r2, r3, r11, r12}\n"                                               \
    "sxtb16 r4, r2\n sxtb16 r5, r2, ror #8\n sxtb16 r6, r3\n sxtb16 r7, r3, ror #8\n sxtb.w r8, r10\n"            \
    NUMBERS "ldr pc, [sp, #24]\n"                                                                                  \
    ".balign 4\n 3:\n" MK_DW3_LINE("32", "0", "32", OUT, STORE) "bne 3b\n b 5f\n"                                        \
    ".balign 4\n 4:\n" MK_DW3_LINE("64", "-32", "0", OUT, STORE) "bne 4b\n"                                              \
    "5: ldr r2, [sp, #20]\n cmp r9, r2\n bne 2b\n add sp, sp, #" FRAME "\n pop {r4-r11, pc}\n"

/* What differs: one before the first channel's place, and the next channel's. Where w22 is tells channels apart, two bytes each. */
#define MK_DW3_LINE_BYTES(M, ...) M(__VA_ARGS__, "strb.w", "sub.w r3, r3, #1\n", "add.w lr, lr, #1\n")
#define MK_DW3_LINE_HALVES(M, ...)                                                                                 \
    M(__VA_ARGS__, "strh.w", "add.w r3, r3, #6\n", "tst.w r8, #2\n ite eq\n addeq.w lr, lr, #8\n subne.w lr, lr, #6\n")

MK_ASM void mk_dw3_line_fitted(MK_ARG const struct mk_dw3 *row) {
    __asm__(MK_DW3_LINE_BYTES(MK_DW3_ROW, "28", "", MK_DW3_FITTED("lr"), "smmla r12, r12, r11, r10\n" MK_DW3_SAT("r12")));
}

#ifdef MK_DW3_WORDS
MK_ASM void mk_dw3_pairs_halves(MK_ARG const struct mk_dw3 *rows) {
    __asm__(MK_DW3_HALVES(MK_DW3_PAIRS, "76", "", MK_DW3_FITTED("r2"), MK_DW3_OUTS2, MK_DW3_OUTS4));
}

MK_ASM void mk_dw3_line_halves(MK_ARG const struct mk_dw3 *row) {
    __asm__(MK_DW3_LINE_HALVES(MK_DW3_ROW, "28", "", MK_DW3_FITTED("lr"), "smmla r12, r12, r11, r10\n" MK_DW3_SAT("r12")));
}
#endif

#ifdef MK_DW3_EXACT
/* Outputs of the exact form: r2 mult or offset, r3 scale >> s. */
#define MK_DW3_EXACT_HIGH(sum) "smmlar " sum ", " sum ", r2, " sum "\n"
#define MK_DW3_EXACT_OUT(sum) "smmlar " sum ", " sum ", r3, r2\n"
#define MK_DW3_EXACT_SAT(sum) "ssat " sum ", #8, " sum "\n"
#define MK_DW3_EXACT_BOTH(sum0, sum1, MIDDLE)                                                                      \
    MK_DW3_EXACT_HIGH(sum0) MK_DW3_EXACT_HIGH(sum1) MIDDLE MK_DW3_EXACT_OUT(sum0) MK_DW3_EXACT_OUT(sum1)            \
    MK_DW3_EXACT_SAT(sum0) MK_DW3_EXACT_SAT(sum1)

MK_ASM void mk_dw3_pairs_exact(MK_ARG const struct mk_dw3 *rows) {
    __asm__(MK_DW3_BYTES(MK_DW3_PAIRS, "84", "ldrd r4, r5, [r0, #32]\n strd r4, r5, [sp, #76]\n",
                         "mov r2, r12\n ldr.w r12, [sp, #76]\n asr.w r10, r10, #8\n lsr.w r10, r12, r10\n",
                         "ldrd r2, r3, [sp, #16]\n" MK_DW3_EXACT_BOTH("r10", "r11", "ldr r2, [sp, #80]\n"),
                         "ldrd r2, r3, [sp, #16]\n" MK_DW3_EXACT_HIGH("r10") MK_DW3_EXACT_HIGH("r11")
                         MK_DW3_EXACT_BOTH("r12", "lr", "ldr r2, [sp, #80]\n" MK_DW3_EXACT_OUT("r10") MK_DW3_EXACT_OUT("r11")
                                           MK_DW3_EXACT_SAT("r10") MK_DW3_EXACT_SAT("r11"))));
}

/* Frame: 28 scale, 32 offset. */
MK_ASM void mk_dw3_line_exact(MK_ARG const struct mk_dw3 *row) {
    __asm__(MK_DW3_LINE_BYTES(MK_DW3_ROW, "36", "ldrd r4, r5, [r0, #32]\n strd r4, r5, [sp, #28]\n",
                       "mov lr, r12\n ldr.w r12, [sp, #28]\n asr.w r10, r10, #8\n lsr.w r10, r12, r10\n",
                       "smmlar r12, r12, r11, r12\n ldr r2, [sp, #32]\n smmlar r12, r12, r10, r2\n"
                       MK_DW3_EXACT_SAT("r12")));
}
#endif

static inline void mk_dw3_outputs(const struct mk_dw3 *rows, int blocks, MK_ARG int exact, MK_ARG int halves) {
#ifdef MK_DW3_WORDS
    if (halves) {
        (blocks ? mk_dw3_pairs_halves : mk_dw3_line_halves)(rows);
        return;
    }
#endif
#ifdef MK_DW3_EXACT
    if (exact) {
        (blocks ? mk_dw3_pairs_exact : mk_dw3_line_exact)(rows);
        return;
    }
#endif
    (blocks ? mk_dw3_pairs_fitted : mk_dw3_line_fitted)(rows);
}

#else

/* One channel of an output from the words of its first column: an upper one, or a lower one. */
static inline int8_t mk_dw3_output(const struct mk_dw3 *rows, int channel, const int32_t *at, int lower,
                                   int exact) {
    const int32_t *group = rows->group, *record = group + 4 * channel;
    const uint32_t w = (uint32_t)record[0], u = (uint32_t)record[1], packed = (uint32_t)record[3];
    const uint32_t w01[3] = {mk_sxtb16(w), mk_sxtb16_ror8(w), mk_sxtb16(u)}, rest = mk_sxtb16_ror8(u);
    const int16_t last = (int16_t)((uint32_t)group[16 + channel / 2] >> 16 * (channel % 2));
    const int8_t w2[3] = {(int8_t)(rest >> 16), (int8_t)rest, (int8_t)last};
    uint32_t acc = exact ? packed : (uint32_t)((int32_t)packed >> 8);
    for (int k = 0; k < 3; ++k, at += MK_DW3_COLUMN) {
        const uint32_t v01 = (uint32_t)at[0], v23 = (uint32_t)at[1];
        if (lower) {
            acc += (uint32_t)((int16_t)(v01 >> 16) * (int16_t)w01[k]);
            acc = mk_smlad(v23, mk_pkhtb16((uint32_t)w2[k] << 16, w01[k]), acc);
        } else {
            acc = mk_smlad(v01, w01[k], acc) + (uint32_t)((int16_t)v23 * w2[k]);
        }
    }
#ifdef MK_DW3_EXACT
    if (exact) {
        const int32_t high = (int32_t)acc + mk_smmulr((int32_t)acc, record[2]);
        return (int8_t)mk_clamp(mk_smmulr(high, (int32_t)((uint32_t)rows->scale >> (last >> 8))) + rows->offset, -128, 127);
    }
#endif
    const int32_t addend = last - (int32_t)(last & 255) + (int32_t)(packed & 255);
    const int32_t high = (int32_t)((int64_t)(int32_t)acc * record[2] >> 32);
    return (int8_t)mk_clamp((high + addend) >> 3, -128, 127);
}

static void mk_dw3_outputs(const struct mk_dw3 *rows, int blocks, int exact, int halves) {
    static const uint8_t places[4] = {0, 8, 2, 10};
    const int lines = blocks ? 2 * blocks : 1;
    for (int channel = 0; channel < 4; ++channel) {
        const int32_t *block = rows->buffer + 2 * channel;
        for (int line = 0; line < lines; ++line) {
            const int32_t *at = block;
            int8_t *out = rows->end + rows->bytes;
            if (halves)
                out += places[channel] + 4 * (line & 1) - (line >> 1) * rows->bytes;
            else
                out += channel - line * rows->bytes;
            for (int32_t left = rows->bytes; left != 0; left += rows->step, at += MK_DW3_COLUMN * rows->stride_w, out += rows->step) {
                out[0] = mk_dw3_output(rows, channel, at, line & 1, exact);
                if (halves) out[1] = out[0] < 0 ? -1 : 0;
            }
            if (line & 1) block = at + 2 * MK_DW3_COLUMN;
        }
    }
}

#endif

/* Widen the columns of four channels, of which there are some, from four rows or from three; a column's pixels lie `step`
 * apart, in all `bytes`. */
#if MK_DSP
#define MK_DW3_WIDEN_ENTER "push {r4-r11, lr}\n ldr lr, [sp, #36]\n add r2, r2, lr\n rsb lr, lr, #0\n"
#define MK_DW3_WIDEN_NEXT "stmia.w r0!, {r8, r9, r10, r11}\n adds.w lr, lr, r3\n bne 1b\n pop {r4-r11, pc}\n"
MK_ASM void mk_dw3_widen4(MK_ARG int32_t *to, MK_ARG const int8_t *const *rows, MK_ARG int channel, MK_ARG int step,
                          MK_ARG int bytes) {
    __asm__(MK_DW3_WIDEN_ENTER
            "ldmia r1, {r4, r5, r6, r7}\n add r4, r4, r2\n add r5, r5, r2\n add r6, r6, r2\n add r7, r7, r2\n"
            "1: ldr.w r8, [r4, lr]\n ldr.w r9, [r5, lr]\n ldr.w r10, [r6, lr]\n ldr.w r11, [r7, lr]\n"
            "pkhbt r1, r8, r9, lsl #16\n pkhtb r8, r9, r8, asr #16\n pkhbt r2, r10, r11, lsl #16\n"
            "pkhtb r9, r11, r10, asr #16\n sxtb16 r10, r1, ror #8\n sxtb16 r11, r2, ror #8\n sxtb16 r1, r1\n sxtb16 r2, r2\n"
            "stmia.w r0!, {r1, r2, r10, r11}\n"
            "sxtb16 r10, r8, ror #8\n sxtb16 r11, r9, ror #8\n sxtb16 r8, r8\n sxtb16 r9, r9\n" MK_DW3_WIDEN_NEXT);
}

MK_ASM void mk_dw3_widen3(MK_ARG int32_t *to, MK_ARG const int8_t *const *rows, MK_ARG int channel, MK_ARG int step,
                          MK_ARG int bytes) {
    __asm__(MK_DW3_WIDEN_ENTER
            "ldmia r1, {r4, r5, r6}\n add r4, r4, r2\n add r5, r5, r2\n add r6, r6, r2\n"
            "1: ldr.w r8, [r4, lr]\n ldr.w r10, [r5, lr]\n ldr.w r12, [r6, lr]\n"
            "pkhbt r1, r8, r10, lsl #16\n pkhtb r10, r10, r8, asr #16\n"
            "sxtb16 r7, r1, ror #8\n sxtb16 r1, r1\n sxtb16 r2, r12\n sxtb16 r8, r12, ror #8\n stmia.w r0!, {r1, r2, r7, r8}\n"
            "asr.w r9, r2, #16\n asr.w r11, r8, #16\n sxtb16 r8, r10\n sxtb16 r10, r10, ror #8\n" MK_DW3_WIDEN_NEXT);
}
#endif

/* The same where a row may be missing: one row of a pair, whose pixels lie 0 apart if it stands for a missing one. */
static void mk_dw3_widen_half(int32_t *to, const int8_t *const *from, const int *steps, int count) {
    const int8_t *upper = from[0], *lower = from[1];
    for (; count > 0; --count, to += MK_DW3_COLUMN, upper += steps[0], lower += steps[1]) {
        const uint32_t a = mk_load4(upper), b = mk_load4(lower);
        const uint32_t low = mk_pkhbt16(a, b), high = mk_pkhtb16(b, a);
        to[0] = (int32_t)mk_sxtb16(low), to[2] = (int32_t)mk_sxtb16_ror8(low);
        to[4] = (int32_t)mk_sxtb16(high), to[6] = (int32_t)mk_sxtb16_ror8(high);
    }
}

MK_SHARED void mk_dw3_widen_border(const struct mk_depthwise_conv2d_s8_dsp *p, int32_t *to, const int8_t *const *in,
                                   int lower, int channel) {
    const int8_t *const rows[4] = {in[0], in[1], in[2], in[lower]};
    const int8_t z = (int8_t)p->zero, missing[4] = {z, z, z, z};
    const int8_t *from[4];
    int steps[4];
    for (int i = 0; i < 4; ++i) {
        from[i] = rows[i] ? rows[i] + channel : missing;
        steps[i] = rows[i] ? p->out_ch : 0;
    }
    mk_dw3_widen_half(to, from, steps, p->end - p->first);
    mk_dw3_widen_half(to + 1, from + 2, steps + 2, p->end - p->first);
}

/* Where outputs go: a pixel's lie `step` bytes apart from the next one's, a group's `group` bytes from the next one's, or where
 * the channels are in a frame (0). */
struct mk_dw3_to {
    int8_t *out;
    int step, group, halves;
};

/* Channels from `channel` on, up to the four of `last`, of `blocks` pairs of rows of outputs, or of one row. */
__attribute__((always_inline)) static inline void mk_dw3_rows(const struct mk_depthwise_conv2d_s8_dsp *p, const int8_t *const *in,
                                                              struct mk_dw3_to to, int blocks, int channel, int last) {
    const int bytes = p->out_w * to.step, size = MK_DW3_COLUMN * p->columns, lower = blocks ? 3 : 2;
    int32_t *const first = p->buffer + MK_DW3_COLUMN * p->first;
    struct mk_dw3 rows = {p->stream, p->buffer, to.out + bytes + channel, -bytes, blocks, to.step, p->stride_w, p->out_w & 1,
#ifdef MK_DW3_EXACT
                          p->scale, p->offset,
#endif
    };
#if MK_DSP
    const int in_bytes = (p->end - p->first) * p->out_ch;
    int border = in_bytes == 0;
    for (int i = 0; i <= 2 * blocks + 2 - (blocks > 0); ++i) border |= !in[i];
#endif
    for (;; rows.group += MK_DW3_GROUP) {
        int32_t *columns = first;
        const int8_t *const *from = in;
        for (int left = blocks;;) {
#if MK_DSP
            if (!border)
                (blocks ? mk_dw3_widen4 : mk_dw3_widen3)(columns, from, channel, p->out_ch, in_bytes);
            else
#endif
                mk_dw3_widen_border(p, columns, from, lower, channel);
            if (--left <= 0) break;
            columns += size, from += 2;
        }
        mk_dw3_outputs(&rows, blocks, p->exact, to.halves);
        if (channel == last) break;
        const int next = mk_min(channel + 4, last);
        rows.end += to.group ? to.group : next - channel;
        channel = next;
    }
}

static void mk_dw3_bytes(const struct mk_depthwise_conv2d_s8_dsp *p, const int8_t *const *in, int8_t *out, int blocks, int channel,
                         int last) {
    const struct mk_dw3_to to = {out, p->out_ch, 0, 0};
    mk_dw3_rows(p, in, to, blocks, channel, last);
}

static void mk_dw3_fill(int32_t *from, const int32_t *end, int32_t value) {
    for (; from != end; from += 4) from[0] = from[1] = from[2] = from[3] = value;
}

/* Pairs of rows that are computed together. */
static inline int mk_dw3_pairs(const struct mk_depthwise_conv2d_s8_dsp *p, int rows) {
    return p->stride_h == 1 && p->stride_w == 1 ? rows >> 1 : 0;
}

/* Columns of padding, which stay as they are. */
static inline void mk_dw3_pad(const struct mk_depthwise_conv2d_s8_dsp *p, int pairs) {
    const int32_t zeros = (int32_t)((uint32_t)p->zero << 16 | (uint32_t)(uint16_t)p->zero);
    const int size = MK_DW3_COLUMN * p->columns;
    for (int b = 0; b < mk_max(pairs, 1); ++b) {
        int32_t *block = p->buffer + b * size;
        mk_dw3_fill(block, block + MK_DW3_COLUMN * p->first, zeros);
        mk_dw3_fill(block + MK_DW3_COLUMN * p->end, block + size, zeros);
    }
}

__attribute__((always_inline)) static inline void mk_dw3_channels_of(const struct mk_depthwise_conv2d_s8_dsp *p,
                                                                     const int8_t *const *in, int8_t *out, int rows,
                                                                     int channel, int last) {
    const int pairs = mk_dw3_pairs(p, rows);
    mk_dw3_pad(p, pairs);
    if (pairs) mk_dw3_bytes(p, in, out, pairs, channel, last);
    for (int r = 2 * pairs; r < rows; ++r) mk_dw3_bytes(p, in + r * p->stride_h, out + r * p->out_w * p->out_ch, 0, channel, last);
    if (last == p->out_ch - 4) mk_clamp_row_s8(out, rows * p->out_w * p->out_ch, p->act_min, p->act_max);
}

MK_KERNEL __attribute__((unused)) static void mk_depthwise_conv2d_s8_dsp(const struct mk_depthwise_conv2d_s8_dsp *p,
                                                                        const int8_t *const *in, int8_t *out, int rows) {
    mk_dw3_channels_of(p, in, out, rows, 0, p->out_ch - 4);
}

/* The four channels from `channel` on, whose words are all that the stream holds. */
__attribute__((unused)) static void mk_depthwise_conv2d_s8_dsp_group(const struct mk_depthwise_conv2d_s8_dsp *p, int channel,
                                                                    const int8_t *const *in, int8_t *out, int rows) {
    mk_dw3_channels_of(p, in, out, rows, channel, channel);
}
