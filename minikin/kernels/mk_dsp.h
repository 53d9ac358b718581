/* The DSP instructions of Cortex-M4, M7 and M33, and their C twins for the host. Q, the saturation flag, is not used. */
#if defined(__ARM_FEATURE_DSP) && defined(__thumb2__)
#define MK_DSP 1
#else
#define MK_DSP 0
#endif

/* A function that is one block of assembly; its parameters are in registers. */
#define MK_ASM __attribute__((naked, noinline, unused)) static

/* Four bytes, at any address. */
static inline uint32_t mk_load4(const int8_t *from) {
    uint32_t word;
    __builtin_memcpy(&word, from, 4);
    return word;
}

/* The bytes 0 and 2 of a word as signed halfwords. */
static inline uint32_t mk_sxtb16(uint32_t x) {
#if MK_DSP
    uint32_t y;
    __asm__("sxtb16 %0, %1" : "=r"(y) : "r"(x));
    return y;
#else
    return ((uint32_t)(int32_t)(int8_t)x & 0xFFFF) | (uint32_t)(int32_t)(int8_t)(x >> 16) << 16;
#endif
}

/* The bytes 1 and 3. */
static inline uint32_t mk_sxtb16_ror8(uint32_t x) {
#if MK_DSP
    uint32_t y;
    __asm__("sxtb16 %0, %1, ror #8" : "=r"(y) : "r"(x));
    return y;
#else
    return mk_sxtb16(x >> 8 | x << 24);
#endif
}

/* The lower halfwords of two words, or the upper ones, that of the first word below. */
static inline uint32_t mk_pkhbt16(uint32_t low, uint32_t high) {
#if MK_DSP
    uint32_t y;
    __asm__("pkhbt %0, %1, %2, lsl #16" : "=r"(y) : "r"(low), "r"(high));
    return y;
#else
    return (low & 0xFFFF) | high << 16;
#endif
}

static inline uint32_t mk_pkhtb16(uint32_t high, uint32_t low) {
#if MK_DSP
    uint32_t y;
    __asm__("pkhtb %0, %1, %2, asr #16" : "=r"(y) : "r"(high), "r"(low));
    return y;
#else
    return low >> 16 | (high & 0xFFFF0000);
#endif
}

/* sum + low(a) * low(b) + high(a) * high(b) of signed halfwords, modulo 2^32. */
static inline uint32_t mk_smlad(uint32_t a, uint32_t b, uint32_t sum) {
#if MK_DSP
    uint32_t y;
    __asm__("smlad %0, %1, %2, %3" : "=r"(y) : "r"(a), "r"(b), "r"(sum));
    return y;
#else
    uint32_t low = (uint32_t)((int16_t)a * (int16_t)b);
    uint32_t high = (uint32_t)((int16_t)(a >> 16) * (int16_t)(b >> 16));
    return sum + low + high;
#endif
}

/* round(a * b / 2^32), halves up. */
static inline int32_t mk_smmulr(int32_t a, int32_t b) {
#if MK_DSP
    int32_t y;
    __asm__("smmulr %0, %1, %2" : "=r"(y) : "r"(a), "r"(b));
    return y;
#else
    return (int32_t)(((int64_t)a * b + ((int64_t)1 << 31)) >> 32);
#endif
}

/* Widen `quads` quads of two pixels' bytes: for each quad the words (0, 2) of both, then the words (1, 3). Gives the place
 * behind them. */
#if MK_DSP
MK_ASM int32_t *mk_widen2(MK_ARG int32_t *to, MK_ARG const int8_t *from0, MK_ARG const int8_t *from1, MK_ARG int quads) {
#define MK_WIDEN2_QUAD                                                                          \
    "ldr r4, [r1], #4\n ldr r5, [r2], #4\n sxtb16 r6, r4, ror #8\n sxtb16 r7, r5, ror #8\n" \
    "sxtb16 r4, r4\n sxtb16 r5, r5\n stmia r0!, {r4, r5, r6, r7}\n"
    __asm__("push {r4, r5, r6, r7}\n lsrs r12, r3, #1\n bcc 2f\n b 3f\n"
            "1:\n" MK_WIDEN2_QUAD "3:\n" MK_WIDEN2_QUAD "2: subs r3, r3, #2\n bhs 1b\n"
            "pop {r4, r5, r6, r7}\n bx lr\n");
#undef MK_WIDEN2_QUAD
}
#else
__attribute__((unused)) static int32_t *mk_widen2(int32_t *to, const int8_t *from0, const int8_t *from1, int quads) {
    for (; quads > 0; --quads, from0 += 4, from1 += 4) {
        *to++ = (int32_t)mk_sxtb16(mk_load4(from0));
        *to++ = (int32_t)mk_sxtb16(mk_load4(from1));
        *to++ = (int32_t)mk_sxtb16_ror8(mk_load4(from0));
        *to++ = (int32_t)mk_sxtb16_ror8(mk_load4(from1));
    }
    return to;
}
#endif

/* The same of one pixel: for each quad the words (0, 2) and (1, 3). */
#if MK_DSP
MK_ASM int32_t *mk_widen1(MK_ARG int32_t *to, MK_ARG const int8_t *from, MK_ARG int quads) {
#define MK_WIDEN1_QUAD "ldr r3, [r1], #4\n sxtb16 r12, r3, ror #8\n sxtb16 r3, r3\n strd r3, r12, [r0], #8\n"
    __asm__("lsrs r3, r2, #1\n bcc 2f\n b 3f\n"
            "1:\n" MK_WIDEN1_QUAD "3:\n" MK_WIDEN1_QUAD "2: subs r2, r2, #2\n bhs 1b\n bx lr\n");
#undef MK_WIDEN1_QUAD
}
#else
__attribute__((unused)) static int32_t *mk_widen1(int32_t *to, const int8_t *from, int quads) {
    for (; quads > 0; --quads, from += 4) {
        *to++ = (int32_t)mk_sxtb16(mk_load4(from));
        *to++ = (int32_t)mk_sxtb16_ror8(mk_load4(from));
    }
    return to;
}
#endif

/* Clamp n bytes, where an activation's range is narrower than int8. */
static inline void mk_clamp_row_s8(int8_t *y, int n, int32_t lo, int32_t hi) {
    if (lo == -128 && hi == 127) return;
    for (; n > 0; --n, ++y) *y = (int8_t)mk_clamp(*y, lo, hi);
}
