/* The depthwise_conv2d of mk_depthwise_conv2d_s8.h on Helium, one output channel for each input channel.
 *
 * Four input rows are interleaved in scratch memory: at each column, for each of `block` channels, a word of four bytes. A
 * window of four rows and columns is then four words, gathered by one load, and one VMLADAVA multiplies it. A larger
 * kernel is several such tiles, by rows and then by columns. The stream is that of mk_mve.h with 16 bytes of weights for each channel
 * of a tile, column by column; taps that a kernel does not have are zero.
 */
struct mk_depthwise_conv2d_s8_mve {
    int32_t in_w, channels, out_w, stride_h, stride_w, pad_left, dilation_w, dilation_h, kernel_h;
    int32_t columns; /* that a row of outputs reads, padding included */
    int32_t block;   /* channels at a time: a multiple of 16 */
    int32_t zero, offset, is_signed, act_min, act_max;
    int32_t tiles;
    const int32_t *tile_steps; /* bytes from each tile to the next, from the last to the first of the next four channels */
    const int32_t *stream;
    int32_t *buffer; /* 16 bytes of padding, then the interleaved rows, then what tiles read beyond them */
};

/* Four rows of up to 16 channels, a step from each column to the next (a row of padding has none); how many columns of
 * padding are before them and behind them. */
struct mk_depthwise_conv2d_s8_mve_rows {
    const int8_t *row[4];
    int32_t step[4];
    int32_t lanes, zero, before, inside, behind;
};

/* The pixels of one block of channels. */
struct mk_depthwise_conv2d_s8_mve_block {
    const int32_t *stream;
    int32_t channels, offset;
    int32_t from_step, out_step; /* bytes from a pixel to the next */
    int32_t column[4];           /* bytes from a tile to its columns */
    int32_t tiles;
    const int32_t *tile_steps;
};

#if MK_MVE
/* Interleave the columns of up to 16 channels. */
MK_ASM void mk_depthwise_conv2d_s8_mve_weave(MK_ARG const struct mk_depthwise_conv2d_s8_mve_rows *rows, MK_ARG int8_t *to,
                                             MK_ARG int to_step) {
    __asm__("push {r4-r11, lr}\n add.w r12, r0, #32\n ldmia.w r12, {r3, r4, r5, r6, r7}\n vdup.8 q0, r4\n vctp.8 r3\n"
            "wls lr, r5, 2f\n"
            "1: vstrb.8 q0, [r1]\n vstrb.8 q0, [r1, #16]\n vstrb.8 q0, [r1, #32]\n vstrb.8 q0, [r1, #48]\n add r1, r2\n"
            "le lr, 1b\n"
            "2: mov r12, r6\n mla r3, r6, r2, r1\n wls lr, r7, 4f\n"
            "3: vstrb.8 q0, [r3]\n vstrb.8 q0, [r3, #16]\n vstrb.8 q0, [r3, #32]\n vstrb.8 q0, [r3, #48]\n add r3, r2\n"
            "le lr, 3b\n"
            "4: ldmia.w r0, {r4-r11}\n wls lr, r12, 6f\n"
            "5: vpstttt\n vldrbt.u8 q0, [r4]\n vldrbt.u8 q1, [r5]\n vldrbt.u8 q2, [r6]\n vldrbt.u8 q3, [r7]\n"
            "add r4, r8\n add r5, r9\n add r6, r10\n add r7, r11\n vst40.8 {q0, q1, q2, q3}, [r1]\n"
            "vst41.8 {q0, q1, q2, q3}, [r1]\n vst42.8 {q0, q1, q2, q3}, [r1]\n vst43.8 {q0, q1, q2, q3}, [r1]\n"
            "add r1, r2\n le lr, 5b\n"
            "6: pop {r4-r11, pc}\n");
}

/* Frame: pixel, stream, twice channels, out (as ldm takes them), pixels left, from_step, out_step, block. */
#define MK_DEPTHWISE_MVE_TAPS(at, a, b)                                                                           \
    "vldrb.u8 q2, [r5], #16\n vldrw.u32 q0, [q6, " at "\n vldrw.u32 q1, [q7, " at "\n vmladava.s8 " a ", q0, q2\n" \
    "vmladava.s8 " b ", q1, q2\n"
#define MK_DEPTHWISE_MVE_ONE                                                                    \
    MK_DEPTHWISE_MVE_TAPS("#4]!", "r0", "r8") MK_DEPTHWISE_MVE_TAPS("#4]!", "r2", "r10")             \
    MK_DEPTHWISE_MVE_TAPS("#4]!", "r4", "r12") MK_DEPTHWISE_MVE_TAPS("#4]!", "r6", "lr")
#define MK_DEPTHWISE_MVE_TILES                                                                  \
    "ldr.w r1, [sp, #28]\n ldrd r7, r3, [r1, #36]\n"                                                \
    "3:\n" MK_DEPTHWISE_MVE_TAPS("#4]", "r0", "r8") MK_DEPTHWISE_MVE_TAPS("#8]", "r2", "r10")        \
    MK_DEPTHWISE_MVE_TAPS("#12]", "r4", "r12") MK_DEPTHWISE_MVE_TAPS("#16]", "r6", "lr")             \
    "ldr.w r1, [r3], #4\n vadd.i32 q6, q6, r1\n vadd.i32 q7, q7, r1\n subs.w r7, r7, #1\n bne.w 3b\n"
#define MK_DEPTHWISE_MVE(taps, fix)                                                                               \
    "push {r4-r11, lr}\n vpush {d8-d15}\n mov.w r12, r0\n ldmia.w r0, {r4-r8}\n mov.w r9, r3\n mov.w r10, r2\n"    \
    "sub.w r11, r1, #4\n mov.w r3, r8\n vdup.16 q4, r6\n lsl.w r5, r5, #1\n" MK_MVE_PLACES                        \
    "push {r12}\n push {r8}\n push {r7}\n push {r9}\n push {r10}\n push {r5}\n push {r4}\n push {r11}\n"           \
    "1: ldr.w r0, [sp, #28]\n ldr.w r3, [sp, #20]\n ldmia.w sp, {r1, r5, r9, r11}\n add.w r0, r0, #20\n"           \
    "vldrw.u32 q6, [r0]\n vadd.i32 q6, q6, r1\n vadd.i32 q7, q6, r3\n"                                            \
    "2:\n" MK_MVE_BIAS taps MK_MVE_OUTPUTS(fix) "bhi.w 2b\n"                                                      \
    "ldrd r0, r1, [sp, #12]\n ldrd r2, r3, [sp, #20]\n ldr.w r4, [sp]\n subs.w r1, r1, #2\n ble.w 4f\n"          \
    "mov.w r6, #2\n cmp r1, #1\n it eq\n moveq r6, #1\n mla r0, r3, r6, r0\n mla r4, r2, r6, r4\n"                \
    "strd r0, r1, [sp, #12]\n str.w r4, [sp]\n b.w 1b\n"                                                         \
    "4: add sp, sp, #32\n vpop {d8-d15}\n pop {r4-r11, pc}\n"

/* The outputs of `pixels` pixels two by two; of an odd number the last pair begins at a pixel that is done already. */
MK_ASM void mk_depthwise_conv2d_s8_mve_relu(MK_ARG const struct mk_depthwise_conv2d_s8_mve_block *block,
                                            MK_ARG const int8_t *from, MK_ARG int8_t *out, MK_ARG int pixels) {
    __asm__(MK_DEPTHWISE_MVE(MK_DEPTHWISE_MVE_ONE, MK_MVE_RELU));
}

/* The same for any number of tiles and any clamp. */
MK_ASM void mk_depthwise_conv2d_s8_mve_tiles(MK_ARG const struct mk_depthwise_conv2d_s8_mve_block *block,
                                             MK_ARG const int8_t *from, MK_ARG int8_t *out, MK_ARG int pixels) {
    __asm__(MK_DEPTHWISE_MVE(MK_DEPTHWISE_MVE_TILES, MK_MVE_SIGNED));
}

static inline void mk_depthwise_conv2d_s8_mve_pixels(const struct mk_depthwise_conv2d_s8_mve_block *block,
                                                     const int8_t *from, int8_t *out, int pixels, int is_signed) {
    if (is_signed || block->tiles > 1)
        mk_depthwise_conv2d_s8_mve_tiles(block, from, out, pixels);
    else
        mk_depthwise_conv2d_s8_mve_relu(block, from, out, pixels);
}
#else
static inline void mk_depthwise_conv2d_s8_mve_weave(const struct mk_depthwise_conv2d_s8_mve_rows *rows, int8_t *to,
                                                    int to_step) {
    for (int x = -rows->before; x < rows->inside + rows->behind; ++x, to += to_step)
        for (int c = 0; c < 16; ++c)
            for (int i = 0; i < 4; ++i) {
                const int8_t *from = rows->row[i] + x * rows->step[i];
                to[4 * c + i] = (int8_t)(x < 0 || x >= rows->inside ? rows->zero : c < rows->lanes ? from[c] : 0);
            }
}

static inline void mk_depthwise_conv2d_s8_mve_pixels(const struct mk_depthwise_conv2d_s8_mve_block *block,
                                                     const int8_t *from, int8_t *out, int pixels, int is_signed) {
    for (int x = 0; x < pixels; ++x, from += block->from_step, out += block->out_step) {
        const int8_t *at = (const int8_t *)block->stream, *tile = from;
        for (int o = 0; o < block->channels; o += 4) {
            int32_t sums[4];
            __builtin_memcpy(sums, at, 16), at += 16;
            for (int t = 0; t < block->tiles; tile += block->tile_steps[t], ++t)
                for (int c = 0; c < 4; ++c)
                    for (int i = 0; i < 16; ++i) sums[c] += tile[block->column[i >> 2] + 4 * c + (i & 3)] * *at++;
            mk_mve_outputs(sums, at, mk_min(4, block->channels - o), block->offset, is_signed, out + o);
            at += 20;
        }
    }
}
#endif

/* Interleave all columns of `count` channels from `first` on. */
static void mk_depthwise_conv2d_s8_mve_fill(const struct mk_depthwise_conv2d_s8_mve *p, const int8_t *const *in, int first,
                                            int count) {
    const int8_t *const padding = (const int8_t *)p->buffer;
    struct mk_depthwise_conv2d_s8_mve_rows rows;
    int8_t *to = (int8_t *)(p->buffer + 4);
    rows.zero = p->zero, rows.before = mk_min(p->pad_left, p->columns);
    rows.inside = mk_min(p->in_w, p->columns - rows.before), rows.behind = p->columns - rows.before - rows.inside;
    for (int top = 0; top < p->kernel_h; top += 4, to += 4 * p->columns * p->block) {
        for (int i = 0; i < 4; ++i) {
            const int8_t *row = top + i < p->kernel_h ? in[(top + i) * p->dilation_h] : NULL;
            rows.row[i] = row ? row + first : padding, rows.step[i] = row ? p->channels : 0;
        }
        for (int c = 0; c < count; c += 16) {
            rows.lanes = mk_min(16, count - c);
            mk_depthwise_conv2d_s8_mve_weave(&rows, to + 4 * c, 4 * p->block);
            for (int i = 0; i < 4; ++i) rows.row[i] += rows.step[i] ? 16 : 0;
        }
    }
}

MK_KERNEL static void mk_depthwise_conv2d_s8_mve(const struct mk_depthwise_conv2d_s8_mve *p, const int8_t *const *in,
                                                 int8_t *out, int rows) {
    const int width = 4 * p->block, column = p->dilation_w * width;
    struct mk_depthwise_conv2d_s8_mve_block block = {
        p->stream, 0, p->offset, 0, 0, {0, column, 2 * column, 3 * column}, p->tiles, p->tile_steps};
    int8_t *to = out;
    if (p->out_w > 1) block.from_step = p->stride_w * width, block.out_step = p->channels; /* one pixel is its own partner */
    mk_fill_s8((int8_t *)p->buffer, (int8_t)p->zero, 16);
    for (int r = 0; r < rows; ++r, in += p->stride_h, to += p->out_w * p->channels) {
        block.stream = p->stream;
        for (int first = 0; first < p->channels; first += p->block) {
            block.channels = mk_min(p->block, p->channels - first);
            mk_depthwise_conv2d_s8_mve_fill(p, in, first, block.channels);
            mk_depthwise_conv2d_s8_mve_pixels(&block, (int8_t *)(p->buffer + 4), to + first, p->out_w, p->is_signed);
            block.stream += (9 + 16 * p->tiles) * p->block / 4;
        }
    }
    mk_clamp_row_s8(out, (int)(to - out), p->act_min, p->act_max);
}
