/* The conv2d of mk_conv2d_s8.h on DSP instructions: pixels are gathered and widened in pairs, then multiplied by mk_mat_s8.h.
 *
 * A pixel's inputs are `spans` runs of `span` adjacent bytes: one for each kernel row, or one for each tap where the
 * kernel is dilated. In the stream come the whole quads of all runs, then the bytes that are left over.
 */
struct mk_conv2d_s8_dsp {
    int32_t in_w, in_ch, out_w, stride_h, stride_w, pad_left, dilation_h, dilation_w;
    int32_t kernel_h, span_cols, span_taps; /* columns of a span, spans of a kernel row */
    int32_t zero;                           /* what stands for an input outside the frame */
    int32_t padded;                         /* whether any is */
    int32_t rest_bytes;                     /* in scratch memory, for the bytes left over of one pixel */
    int32_t last_column;                    /* of the first column of a window that ends in the frame */
    int32_t pairs;                          /* that are widened together */
    int32_t out_ch, quads, whole_words, scale, offset, form, act_min, act_max;
    const int32_t *stream;
    int32_t *buffer; /* scratch: the pairs widened, then the bytes left over of two pixels, then those of three spans */
};

/* Pairs of pixels next to each other, none of whose inputs is padding: rows of pointers, bytes from there to the first pixel,
 * from a pixel to the next, and from one pointer to the next. */
struct mk_conv2d_s8_dsp_run {
    const int8_t *const *in;
    int32_t first, pixel, rows, step;
    int32_t quads, left, rest_bytes, rest_quads; /* of a row; bytes left over of a row; of a pixel */
    int8_t *rests;
    int32_t pairs;
};

/* Widen them, the words of a pair's pixels side by side; gives the place behind them. */
#if MK_DSP
#define MK_CONV_QUAD                                                                              \
    "ldr r1, [r9], #4\n ldr r8, [r10], #4\n sxtb16 r11, r1, ror #8\n sxtb16 r12, r8, ror #8\n" \
    "sxtb16 r1, r1\n sxtb16 r8, r8\n stmia.w r0!, {r1, r8, r11, r12}\n"
MK_ASM int32_t *mk_conv2d_s8_dsp_widen(MK_ARG int32_t *to, MK_ARG const struct mk_conv2d_s8_dsp_run *run) {
    /* frame: 0 in, 4 rows, 8 quads, 12 left, 16 rest_bytes, 20 rest_quads, 24 rests, 28 pairs */
    __asm__("push {r4-r11, lr}\n sub sp, sp, #36\n ldmia.w r1, {r2, r4, r5, r6, r7, r8, r9, r10, r11}\n"
            "strd r2, r6, [sp]\n strd r8, r9, [sp, #8]\n strd r10, r11, [sp, #16]\n ldrd r8, r9, [r1, #36]\n"
            "strd r8, r9, [sp, #24]\n"
            "5: ldrd r2, r6, [sp]\n ldr r3, [sp, #24]\n"
            "4: ldr r9, [r2]\n ldr.w lr, [sp, #8]\n add r2, r2, r7\n add r9, r9, r4\n add r10, r9, r5\n"
            "lsrs.w r1, lr, #1\n bcc 2f\n b 3f\n"
            "1:\n" MK_CONV_QUAD "3:\n" MK_CONV_QUAD "2: subs.w lr, lr, #2\n bhs 1b\n"
            "ldrd r8, r11, [sp, #12]\n cmp.w r8, #0\n beq 6f\n"
            "7: ldrb r1, [r9], #1\n ldrb r12, [r10], #1\n strb.w r12, [r3, r11]\n strb r1, [r3], #1\n subs.w r8, r8, #1\n bne 7b\n"
            "6: subs r6, r6, #1\n bne 4b\n"
            "ldrd lr, r9, [sp, #20]\n cmp.w lr, #0\n beq 8f\n add.w r10, r9, r11\n"
            "9:\n" MK_CONV_QUAD "subs.w lr, lr, #1\n bne 9b\n"
            "8: add r4, r4, r5, lsl #1\n ldr r1, [sp, #28]\n subs r1, r1, #1\n str r1, [sp, #28]\n bne 5b\n"
            "add sp, sp, #36\n pop {r4-r11, pc}\n");
}
#undef MK_CONV_QUAD
#else
static int32_t *mk_conv2d_s8_dsp_widen(int32_t *to, const struct mk_conv2d_s8_dsp_run *run) {
    for (int i = 0; i < run->pairs; ++i) {
        int8_t *rest = run->rests;
        for (int row = 0; row < run->rows; ++row) {
            const int8_t *a = run->in[row * (run->step / (int)sizeof(int8_t *))] + run->first + 2 * i * run->pixel;
            to = mk_widen2(to, a, a + run->pixel, run->quads);
            mk_append_s8(rest + run->rest_bytes, a + run->pixel, 4 * run->quads, run->left);
            rest = mk_append_s8(rest, a, 4 * run->quads, run->left);
        }
        to = mk_widen2(to, run->rests, run->rests + run->rest_bytes, run->rest_quads);
    }
    return to;
}
#endif

/* Where the window of a pixel begins. */
struct mk_conv2d_s8_dsp_at {
    const int8_t *const *in;
    int column;
};

/* Scratch memory behind the widened pairs: bytes left over of two pixels; spans with padding of both; one of padding alone. */
struct mk_conv2d_s8_dsp_scratch {
    int8_t *a, *b, *span, *blank;
};

static inline struct mk_conv2d_s8_dsp_scratch mk_conv2d_s8_dsp_scratch(const struct mk_conv2d_s8_dsp *p) {
    int8_t *const a = (int8_t *)(p->buffer + 4 * p->quads * p->pairs), *const span = a + 2 * p->rest_bytes;
    const struct mk_conv2d_s8_dsp_scratch scratch = {a, a + p->rest_bytes, span, span + 2 * p->span_cols * p->in_ch};
    return scratch;
}

/* A span's bytes: in the row itself, or put together in scratch memory where some are padding. */
MK_SHARED const int8_t *mk_conv2d_s8_dsp_span(const struct mk_conv2d_s8_dsp *p, const int8_t *row, int column, int8_t *span,
                                           const int8_t *blank) {
    if (!row) return blank;
    if (column >= 0 && column <= p->in_w - p->span_cols) return row + column * p->in_ch;
    const int lo = mk_clamp(-column, 0, p->span_cols), hi = mk_clamp(p->in_w - column, lo, p->span_cols);
    int8_t *to = mk_fill_s8(span, (int8_t)p->zero, lo * p->in_ch);
    to = mk_append_s8(to, row, (column + lo) * p->in_ch, (hi - lo) * p->in_ch);
    mk_fill_s8(to, (int8_t)p->zero, (p->span_cols - hi) * p->in_ch);
    return span;
}

/* Widen the inputs of any two pixels; gives the place behind them. */
MK_SHARED int32_t *mk_conv2d_s8_dsp_pair(const struct mk_conv2d_s8_dsp *p, const struct mk_conv2d_s8_dsp_at *a,
                                      const struct mk_conv2d_s8_dsp_at *b, int32_t *to) {
    const struct mk_conv2d_s8_dsp_scratch scratch = mk_conv2d_s8_dsp_scratch(p);
    const int size = p->span_cols * p->in_ch, whole = size & ~3, count = size & 3;
    int8_t *rest_a = scratch.a, *rest_b = scratch.b;
    for (int ky = 0; ky < p->kernel_h; ++ky)
        for (int kx = 0; kx < p->span_taps; ++kx) {
            const int y = ky * p->dilation_h, x = kx * p->dilation_w;
            const int8_t *from_a = mk_conv2d_s8_dsp_span(p, a->in[y], a->column + x, scratch.span, scratch.blank);
            const int8_t *from_b = mk_conv2d_s8_dsp_span(p, b->in[y], b->column + x, scratch.span + size, scratch.blank);
            to = mk_widen2(to, from_a, from_b, whole >> 2);
            for (int i = 0; i < count; ++i) *rest_a++ = from_a[whole + i], *rest_b++ = from_b[whole + i];
        }
    return mk_widen2(to, scratch.a, scratch.b, p->rest_bytes >> 2);
}

/* Widen the inputs of a pixel without a partner. */
MK_SHARED void mk_conv2d_s8_dsp_single(const struct mk_conv2d_s8_dsp *p, const struct mk_conv2d_s8_dsp_at *at, int32_t *to) {
    const struct mk_conv2d_s8_dsp_scratch scratch = mk_conv2d_s8_dsp_scratch(p);
    const int size = p->span_cols * p->in_ch;
    int8_t *rest = scratch.a;
    for (int ky = 0; ky < p->kernel_h; ++ky)
        for (int kx = 0; kx < p->span_taps; ++kx) {
            const int8_t *from = mk_conv2d_s8_dsp_span(p, at->in[ky * p->dilation_h], at->column + kx * p->dilation_w,
                                                       scratch.span, scratch.blank);
            to = mk_widen1(to, from, size >> 2);
            rest = mk_append_s8(rest, from, size & ~3, size & 3);
        }
    mk_widen1(to, scratch.a, p->rest_bytes >> 2);
}

/* The pixels that are left, in the order of the outputs, row by row. */
struct mk_conv2d_s8_dsp_walk {
    struct mk_conv2d_s8_dsp_at at;
    int row_pixels; /* that are left of the row */
};

static inline struct mk_conv2d_s8_dsp_at mk_conv2d_s8_dsp_next(const struct mk_conv2d_s8_dsp *p,
                                                               struct mk_conv2d_s8_dsp_walk *walk) {
    const struct mk_conv2d_s8_dsp_at at = walk->at;
    walk->at.column += p->stride_w;
    if (--walk->row_pixels == 0) {
        walk->row_pixels = p->out_w, walk->at.column = -p->pad_left, walk->at.in += p->stride_h;
    }
    return at;
}

/* How many pairs without padding follow in the row, at most `pairs`. */
static inline int mk_conv2d_s8_dsp_inside(const struct mk_conv2d_s8_dsp *p, const struct mk_conv2d_s8_dsp_walk *walk,
                                          int last_column, int pairs) {
    const struct mk_conv2d_s8_dsp_at *at = &walk->at;
    const int left = last_column - at->column;
    if (p->span_taps > 1 || at->column < 0 || left < 0 || !at->in[0] || !at->in[(p->kernel_h - 1) * p->dilation_h]) return 0;
    return mk_min(pairs, mk_min(left / p->stride_w + 1, walk->row_pixels) >> 1);
}

/* Widen `pairs` pairs of pixels. */
static inline void mk_conv2d_s8_dsp_gather(const struct mk_conv2d_s8_dsp *p, struct mk_conv2d_s8_dsp_walk *walk,
                                           int last_column, int pairs) {
    int32_t *to = p->buffer;
    while (pairs > 0) {
        const int inside = mk_conv2d_s8_dsp_inside(p, walk, last_column, pairs);
        if (inside) {
            const int size = p->span_cols * p->in_ch, step = p->dilation_h * (int)sizeof(int8_t *);
            const struct mk_conv2d_s8_dsp_run run = {
                walk->at.in, walk->at.column * p->in_ch, p->stride_w * p->in_ch, p->kernel_h, step, size >> 2, size & 3,
                p->rest_bytes, p->rest_bytes >> 2, mk_conv2d_s8_dsp_scratch(p).a, inside};
            to = mk_conv2d_s8_dsp_widen(to, &run);
            walk->at.column += (2 * inside - 1) * p->stride_w, walk->row_pixels -= 2 * inside - 1;
            mk_conv2d_s8_dsp_next(p, walk);
            pairs -= inside;
        } else {
            const struct mk_conv2d_s8_dsp_at a = mk_conv2d_s8_dsp_next(p, walk), b = mk_conv2d_s8_dsp_next(p, walk);
            to = mk_conv2d_s8_dsp_pair(p, &a, &b, to);
            --pairs;
        }
    }
}

/* The outputs of whole groups at pairs of pixels; gives the place behind them. */
static inline int8_t *mk_mat2_some(const struct mk_mat_s8 *m, const int32_t *x, int8_t *out, int pairs) {
    mk_mat2_groups(m, x, out, pairs);
    return out + 2 * pairs * m->out_ch;
}

static inline int mk_conv2d_s8_dsp_pointwise(const struct mk_conv2d_s8_dsp *p) {
    return p->kernel_h * p->span_taps * p->span_cols == 1 && !p->padded;
}

/* The outputs of `mat` at all pairs of pixels, from *out on: of all channels, or of its whole groups. Gives how many pixels are
 * left, 0 or 1. */
__attribute__((always_inline)) static inline int mk_conv2d_s8_dsp_pairs(const struct mk_conv2d_s8_dsp *p,
                                                                        const struct mk_mat_s8 *mat,
                                                                        const int8_t *const *in, int8_t **out, int rows,
                                                                        int all) {
    struct mk_conv2d_s8_dsp_walk walk = {{in, -p->pad_left}, p->out_w};
    int pixels = rows * p->out_w, last_column = p->last_column, row_bytes = p->in_w * p->in_ch;
    if (p->padded) mk_fill_s8(mk_conv2d_s8_dsp_scratch(p).blank, (int8_t)p->zero, p->span_cols * p->in_ch);
    if (mk_conv2d_s8_dsp_pointwise(p) && p->stride_h == 1 && p->stride_w == 1 && p->in_w == p->out_w &&
        in[rows - 1] == in[0] + (rows - 1) * row_bytes)
        walk.row_pixels = pixels, last_column = pixels - 1; /* one row behind the other, they are one */
    while (pixels > 1) {
        const int pairs = mk_min(pixels >> 1, p->pairs);
        mk_conv2d_s8_dsp_gather(p, &walk, last_column, pairs);
        *out = (all ? mk_mat2 : mk_mat2_some)(mat, p->buffer, *out, pairs);
        pixels -= 2 * pairs;
    }
    return pixels;
}

/* The inputs of the last pixel, widened. */
static inline const int32_t *mk_conv2d_s8_dsp_last(const struct mk_conv2d_s8_dsp *p, const int8_t *const *in, int rows) {
    const struct mk_conv2d_s8_dsp_at last = {in + (rows - 1) * p->stride_h, (p->out_w - 1) * p->stride_w - p->pad_left};
    int32_t *const to = p->buffer + 2 * (p->quads & 1);
    if (mk_conv2d_s8_dsp_pointwise(p) && p->in_ch % 4 == 0)
        mk_widen1(to, last.in[0] + last.column * p->in_ch, p->quads);
    else
        mk_conv2d_s8_dsp_single(p, &last, to);
    return to;
}

MK_KERNEL __attribute__((unused)) static void mk_conv2d_s8_dsp(const struct mk_conv2d_s8_dsp *p, const int8_t *const *in,
                                                              int8_t *out, int rows) {
    const struct mk_mat_s8 mat =
        mk_mat(p->stream, p->stream + p->whole_words, p->quads, p->scale, p->offset, p->out_ch, p->form);
    int8_t *to = out;
    if (mk_conv2d_s8_dsp_pairs(p, &mat, in, &to, rows, 1)) to = mk_mat1(&mat, mk_conv2d_s8_dsp_last(p, in, rows), 0, to);
    mk_clamp_row_s8(out, (int)(to - out), p->act_min, p->act_max);
}

/* The outputs of the `count` groups that the stream holds now, of channels from `channel` on. */
__attribute__((unused)) static void mk_conv2d_s8_dsp_groups(const struct mk_conv2d_s8_dsp *p, int count, int channel,
                                                           const int8_t *const *in, int8_t *out, int rows) {
    const int32_t *const end = p->stream + count * (4 * p->quads + MK_MAT_EXTRA);
    const struct mk_mat_s8 mat = mk_mat(p->stream, end, p->quads, p->scale, p->offset, p->out_ch, p->form);
    int8_t *to = out + channel;
    if (mk_conv2d_s8_dsp_pairs(p, &mat, in, &to, rows, 0)) mk_mat1_groups(&mat, mk_conv2d_s8_dsp_last(p, in, rows), 0, to);
    if (channel + 4 * count == p->out_ch) mk_clamp_row_s8(out, rows * p->out_w * p->out_ch, p->act_min, p->act_max);
}
