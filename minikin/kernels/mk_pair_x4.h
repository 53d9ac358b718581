/* The product of a matrix of weights and two pixels at a time, with its outputs, for cores without SIMD: both pixels' inputs k
 * are halves of a word, b[k] * 2^16 + a[k], so that one product serves both. Weights are stored with 128 added, which needs no sign.
 * Of each four inputs the products, their sum less 128 times that of the words, and 2^15 give
 *
 *     part = sb * 2^16 + sa + 2^15, -2^15 <= sa, sb < 2^15 (sums of at most 255 magnitudes of weights)
 *
 * so that part >> 16 is sb. What weights have above that is corrected behind. The stream has for each four channels
 *
 *     bias (4 int32), weights (of each four inputs: 4 channels x 4 uint8), corrections of each channel (4 uint16: how many),
 *     corrections (int8 pairs: words to go on, weight; filled up to a word), mult, addend (4 int32 each), shift (4 int8)
 *
 * where the input's zero point is in the bias; the rest is mk_out_x4.h's.
 */
struct mk_pair_x4 {
    const int32_t *stream;
    int32_t *pair; /* five words of each four inputs: 2^15 - 128 times the sum of the others, these */
    int32_t inputs, out_ch, low, act_min, act_max;
};

/* Of a channel: the sum of all parts, that of their upper halves. */
struct mk_pair_x4_sums {
    uint32_t parts, upper;
};

/* The inputs of two pixels as words. */
MK_SHARED void mk_pair_x4_widen(int32_t *to, const int8_t *a, const int8_t *b, int n) {
    for (; n >= 4; n -= 4, to += 5, a += 4, b += 4) {
        const uint32_t x0 = ((uint32_t)b[0] << 16) + (uint32_t)a[0], x1 = ((uint32_t)b[1] << 16) + (uint32_t)a[1];
        const uint32_t x2 = ((uint32_t)b[2] << 16) + (uint32_t)a[2], x3 = ((uint32_t)b[3] << 16) + (uint32_t)a[3];
        to[1] = (int32_t)x0, to[2] = (int32_t)x1, to[3] = (int32_t)x2, to[4] = (int32_t)x3;
        to[0] = (int32_t)((1u << 15) - ((x0 + x1 + x2 + x3) << 7));
    }
    if (n) { /* what is left, filled up with zeros */
        uint32_t sum = 0;
        for (int k = 0; k < 4; ++k) {
            const uint32_t x = k < n ? ((uint32_t)b[k] << 16) + (uint32_t)a[k] : 0;
            to[1 + k] = (int32_t)x;
            sum += x;
        }
        to[0] = (int32_t)((1u << 15) - (sum << 7));
    }
}

/* Add the products of four channels to their sums; `w` are the weights, [x, end) the pair, `next` the bytes from a channel's
 * last weights to the next channel's first. */
#if MK_V6M
#define MK_PAIR_X4_TAP(at, x) "ldrb r3, [r1, #" at "]\n muls r3, " x "\n adds r2, r2, r3\n"
#define MK_PAIR_X4_PART(a, b, c, d)                                                                             \
    "ldmia r0!, {r2, r4, r5, r6, r7}\n" MK_PAIR_X4_TAP(a, "r4") MK_PAIR_X4_TAP(b, "r5") MK_PAIR_X4_TAP(c, "r6") \
        MK_PAIR_X4_TAP(d, "r7") "add r8, r2\n asrs r2, r2, #16\n add r9, r2\n"
MK_NAKED void mk_pair_x4_sum(MK_ARG struct mk_pair_x4_sums sums[4], MK_ARG const uint8_t *w, MK_ARG const int32_t *x,
                             MK_ARG const int32_t *end, MK_ARG int next) {
    /* r8, r9: sums of a channel; r10: end; r11: x; r12: sums; lr: below zero where the parts are odd in number */
    __asm__(".syntax unified\n push {r4, r5, r6, r7, lr}\n mov r4, r8\n mov r5, r9\n mov r6, r10\n mov r7, r11\n"
            "push {r4, r5, r6, r7}\n mov r10, r3\n mov r11, r2\n subs r3, r3, r2\n lsls r3, r3, #29\n mov lr, r3\n"
            "movs r2, r0\n adds r0, #32\n push {r0}\n"
            "2: mov r12, r2\n ldmia r2!, {r3, r4}\n mov r8, r3\n mov r9, r4\n mov r0, r11\n mov r3, lr\n cmp r3, #0\n bpl 3f\n"
            "subs r1, #16\n b 4f\n"
            "3:\n" MK_PAIR_X4_PART("0", "1", "2", "3") "4:\n" MK_PAIR_X4_PART("16", "17", "18", "19")
            "adds r1, #32\n cmp r0, r10\n bne 3b\n"
            "mov r2, r12\n mov r3, r8\n mov r4, r9\n stmia r2!, {r3, r4}\n"
            "ldr r3, [sp, #40]\n adds r1, r1, r3\n ldr r3, [sp]\n cmp r2, r3\n bne 2b\n add sp, #4\n pop {r4, r5, r6, r7}\n"
            "mov r8, r4\n mov r9, r5\n mov r10, r6\n mov r11, r7\n pop {r4, r5, r6, r7, pc}\n");
}
#else
#define MK_PAIR_X4_PART(c)                                                                                          \
    do {                                                                                                            \
        const uint32_t part = z + x0 * w[4 * c] + x1 * w[4 * c + 1] + x2 * w[4 * c + 2] + x3 * w[4 * c + 3];        \
        parts##c += part, upper##c += (uint32_t)((int32_t)part >> 16);                                              \
        __asm__ volatile("" ::: "memory"); /* no load is moved before this: those of several channels would spill */ \
    } while (0)
MK_SHARED void mk_pair_x4_sum(struct mk_pair_x4_sums sums[4], const uint8_t *w, const int32_t *x, const int32_t *end,
                              MK_ARG int next) {
    uint32_t parts0 = sums[0].parts, parts1 = sums[1].parts, parts2 = sums[2].parts, parts3 = sums[3].parts;
    uint32_t upper0 = sums[0].upper, upper1 = sums[1].upper, upper2 = sums[2].upper, upper3 = sums[3].upper;
    for (; x != end; x += 5, w += 16) {
        const uint32_t z = (uint32_t)x[0], x0 = (uint32_t)x[1], x1 = (uint32_t)x[2], x2 = (uint32_t)x[3], x3 = (uint32_t)x[4];
        MK_PAIR_X4_PART(0);
        MK_PAIR_X4_PART(1);
        MK_PAIR_X4_PART(2);
        MK_PAIR_X4_PART(3);
    }
    sums[0] = (struct mk_pair_x4_sums){parts0, upper0}, sums[1] = (struct mk_pair_x4_sums){parts1, upper1};
    sums[2] = (struct mk_pair_x4_sums){parts2, upper2}, sums[3] = (struct mk_pair_x4_sums){parts3, upper3};
}
#endif
#undef MK_PAIR_X4_PART

/* What the outputs of a group are made with; `step`: bytes from a pixel's output to its partner's. */
struct mk_pair_x4_numbers {
    int32_t low, act_min, act_max, step;
    const int32_t *mult; /* of four channels; then addends, shifts */
};

/* The fitted outputs of channels [sums, end). */
#if MK_V6M
#define MK_PAIR_X4_CLAMP(x) "cmp " x ", r8\n bge 2f\n mov " x ", r8\n 2: cmp " x ", r9\n ble 2f\n mov " x ", r9\n 2:\n"
MK_NAKED void mk_pair_x4_fitted(MK_ARG const struct mk_pair_x4_numbers *n, MK_ARG const struct mk_pair_x4_sums *sums,
                                MK_ARG const struct mk_pair_x4_sums *end, MK_ARG int8_t *out) {
    /* r8, r9: bounds; r10: low; r11: step; r12: out; lr: end; r1: mult; stack: shift */
    __asm__(".syntax unified\n push {r4, r5, r6, r7, lr}\n mov r4, r8\n mov r5, r9\n mov r6, r10\n mov r7, r11\n"
            "push {r4, r5, r6, r7}\n mov lr, r2\n mov r12, r3\n ldmia r0!, {r2, r3, r4, r5, r6}\n mov r10, r2\n mov r8, r3\n"
            "mov r9, r4\n mov r11, r5\n movs r0, r1\n movs r1, r6\n adds r6, #32\n push {r6}\n"
            "1: ldmia r0!, {r2, r3}\n lsls r4, r3, #16\n subs r2, r2, r4\n ldr r5, [r1]\n mov r7, r10\n"
            "movs r4, r5\n lsrs r4, r7\n movs r6, r4\n lsls r6, r7\n subs r5, r5, r6\n" /* halves of mult: r4, r5 */
            "movs r6, r5\n muls r6, r2\n muls r5, r3\n asrs r6, r7\n asrs r5, r7\n muls r2, r4\n muls r3, r4\n"
            "adds r2, r2, r6\n adds r3, r3, r5\n ldr r4, [r1, #16]\n adds r2, r2, r4\n adds r3, r3, r4\n"
            "ldr r4, [sp]\n ldrb r7, [r4]\n adds r4, #1\n str r4, [sp]\n asrs r2, r7\n asrs r3, r7\n"
            MK_PAIR_X4_CLAMP("r2") MK_PAIR_X4_CLAMP("r3")
            "mov r4, r12\n mov r5, r11\n strb r2, [r4]\n strb r3, [r4, r5]\n adds r4, #1\n mov r12, r4\n adds r1, #4\n"
            "cmp r0, lr\n bne 1b\n add sp, #4\n pop {r4, r5, r6, r7}\n"
            "mov r8, r4\n mov r9, r5\n mov r10, r6\n mov r11, r7\n pop {r4, r5, r6, r7, pc}\n");
}
#else
static void mk_pair_x4_fitted(const struct mk_pair_x4_numbers *n, const struct mk_pair_x4_sums *sums,
                              const struct mk_pair_x4_sums *end, int8_t *out) {
    const int32_t *mult = n->mult;
    for (const int8_t *shift = (const int8_t *)(mult + 8); sums != end; ++sums, ++mult, ++shift, ++out) {
        const struct mk_out_x4 q = {*mult, mult[4], *shift, n->act_min, n->act_max};
        const int8_t a = mk_out_x4_fitted(&q, (int32_t)(sums->parts - (sums->upper << 16)), n->low);
        out[n->step] = mk_out_x4_fitted(&q, (int32_t)sums->upper, n->low);
        *out = a;
    }
}
#endif

/* Outputs of any form. */
MK_SHARED void mk_pair_x4_exact(const struct mk_pair_x4_numbers *n, const struct mk_pair_x4_sums *sums,
                                const struct mk_pair_x4_sums *end, int8_t *out) {
    const int32_t *mult = n->mult;
    for (const int8_t *shift = (const int8_t *)(mult + 8); sums != end; ++sums, ++mult, ++shift, ++out) {
        const struct mk_out_x4 q = {*mult, mult[4], *shift, n->act_min, n->act_max};
        const int8_t a = mk_out_x4_exact(&q, (int32_t)(sums->parts - (sums->upper << 16)));
        out[n->step] = mk_out_x4_exact(&q, (int32_t)sums->upper);
        *out = a;
    }
}

/* The sums of four channels before their products: twice the bias, less the 2^15 of all parts, and corrections. Gives the
 * place behind those. */
#if MK_V6M
MK_NAKED const int8_t *mk_pair_x4_start(MK_ARG struct mk_pair_x4_sums sums[4], MK_ARG const int32_t *bias,
                                        MK_ARG const uint16_t *counts, MK_ARG const int32_t *pair, MK_ARG uint32_t taken) {
    /* r1: corrections; r2: how many are left; r3: pair; r8: taken; r9: pair; r10: bias; r11: counts; r12: end; lr: 2^15 */
    __asm__(".syntax unified\n push {r4, r5, r6, r7, lr}\n mov r4, r8\n mov r5, r9\n mov r6, r10\n mov r7, r11\n"
            "push {r4, r5, r6, r7}\n mov r9, r3\n mov r10, r1\n mov r11, r2\n ldr r4, [sp, #36]\n mov r8, r4\n"
            "movs r4, #1\n lsls r4, r4, #15\n mov lr, r4\n movs r1, r2\n adds r1, #8\n movs r4, r0\n adds r4, #32\n mov r12, r4\n"
            "1: mov r4, r10\n ldmia r4!, {r5}\n mov r10, r4\n lsls r4, r5, #16\n adds r4, r4, r5\n mov r6, r8\n subs r4, r4, r6\n"
            "mov r6, r11\n ldrh r2, [r6]\n adds r6, #2\n mov r11, r6\n mov r3, r9\n cmp r2, #0\n beq 3f\n"
            "2: ldrb r6, [r1]\n lsls r6, r6, #2\n adds r3, r3, r6\n ldr r6, [r3]\n ldrb r7, [r1, #1]\n sxtb r7, r7\n"
            "muls r6, r7\n adds r4, r4, r6\n add r6, lr\n asrs r6, r6, #16\n adds r5, r5, r6\n adds r1, #2\n subs r2, #1\n bne 2b\n"
            "3: stmia r0!, {r4, r5}\n cmp r0, r12\n bne 1b\n movs r0, r1\n pop {r4, r5, r6, r7}\n"
            "mov r8, r4\n mov r9, r5\n mov r10, r6\n mov r11, r7\n pop {r4, r5, r6, r7, pc}\n");
}
#else
static const int8_t *mk_pair_x4_start(struct mk_pair_x4_sums sums[4], const int32_t *bias, const uint16_t *counts,
                                      const int32_t *pair, uint32_t taken) {
    const int8_t *correction = (const int8_t *)(counts + 4);
    for (const struct mk_pair_x4_sums *end = sums + 4; sums != end; ++sums, ++bias, ++counts) {
        const int32_t *x = pair;
        uint32_t parts = (uint32_t)*bias * 65537u - taken, upper = (uint32_t)*bias;
        for (int n = *counts; n > 0; --n, correction += 2) {
            x += (uint8_t)correction[0];
            const uint32_t product = (uint32_t)*x * (uint32_t)correction[1];
            parts += product, upper += (uint32_t)((int32_t)(product + (1u << 15)) >> 16);
        }
        sums->parts = parts, sums->upper = upper;
    }
    return correction;
}
#endif

/* Both pixels of the pair. The second's outputs lie `step` bytes behind. */
static void mk_pair_x4_outputs(const struct mk_pair_x4 *p, int8_t *out, int step) {
    const int parts = (p->inputs + 3) / 4;
    struct mk_pair_x4_numbers n = {p->low, p->act_min, p->act_max, step, p->stream};
    for (int left = p->out_ch; left > 0; left -= 4, out += 4) {
        const int32_t *bias = n.mult;
        struct mk_pair_x4_sums sums[4];
        const uint8_t *w = (const uint8_t *)(bias + 4);
        const uint16_t *counts = (const uint16_t *)(w + 16 * parts);
        const int8_t *behind = mk_pair_x4_start(sums, bias, counts, p->pair, (uint32_t)parts << 15);
        mk_pair_x4_sum(sums, w, p->pair, p->pair + 5 * parts, 4 - 16 * parts);
        n.mult = (const int32_t *)counts + (behind - (const int8_t *)counts + 3) / 4;
        if (p->low)
            mk_pair_x4_fitted(&n, sums, sums + mk_min(4, left), out);
        else
            mk_pair_x4_exact(&n, sums, sums + mk_min(4, left), out);
        n.mult += 9;
    }
}

/* The outputs of `pixels` pixels, one behind the other, whose inputs lie `step` bytes apart. */
MK_SHARED void mk_pair_x4(const struct mk_pair_x4 *p, const int8_t *x, int8_t *out, int step, int pixels) {
    for (; pixels > 0; pixels -= 2, x += 2 * step, out += 2 * p->out_ch) {
        const int two = pixels > 1; /* the last one is its own partner */
        mk_pair_x4_widen(p->pair, x, x + two * step, p->inputs);
        mk_pair_x4_outputs(p, out, two * p->out_ch);
    }
}
