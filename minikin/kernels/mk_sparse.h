/* Weights as the nonzero ones of each channel, each behind the number of zeros before it.
 *
 * counts[n] entries belong to channel n. With a codebook an entry is one byte, (zeros << bits | index); without, it is two: zeros,
 * code. Longer runs of zeros take entries whose code is zero.
 */
struct mk_sparse {
    const uint16_t *counts;
    const uint8_t *entries;
    const int8_t *codebook;
    int32_t bits;
};

struct mk_sparse_reader {
    const uint16_t *counts;
    const uint8_t *in;
    const int8_t *codebook;
    int32_t bits;
};

static inline struct mk_sparse_reader mk_sparse_start(const struct mk_sparse *p) {
    const struct mk_sparse_reader r = {p->counts, p->entries, p->codebook, p->bits};
    return r;
}

/* One entry: pass its zeros, add a product. For size gcc would make the addresses of several entries at once, and spill them. */
#if defined(__OPTIMIZE_SIZE__) && !defined(__clang__)
#define MK_SPARSE_PASS(zeros) \
    x += zeros;               \
    __asm__("" : "+r"(x))
#else
#define MK_SPARSE_PASS(zeros) x += zeros
#endif
#define MK_SPARSE_INDEXED(at)                              \
    do {                                                   \
        const uint32_t entry = in[at];                     \
        MK_SPARSE_PASS(entry >> bits);                     \
        acc += (uint32_t)(*x++ * codebook[entry & mask]); \
    } while (0)
#define MK_SPARSE_PLAIN(at)                                     \
    do {                                                        \
        MK_SPARSE_PASS(in[2 * (at)]);                           \
        acc += (uint32_t)(*x++ * (int8_t)in[2 * (at) + 1]);     \
    } while (0)

#ifdef __OPTIMIZE_SIZE__
#define MK_SPARSE_ROW MK_SHARED /* inside a kernel gcc runs short of registers */
#else
#define MK_SPARSE_ROW static inline
#endif

/* The sum of the inputs x times the weights of the next channel of `size`. Where compilers unroll nothing, for size, four entries
 * are taken at a time: sparse layers are chosen for their speed as well. */
MK_SPARSE_ROW uint32_t mk_sparse_row(struct mk_sparse_reader *r, const int8_t *x, int size) {
    (void)size;
    const uint8_t *in = r->in;
    const int8_t *codebook = r->codebook;
    uint32_t acc = 0;
    int count = *r->counts++;
    if (codebook) {
        const uint32_t bits = (uint32_t)r->bits, mask = (1u << bits) - 1;
#ifdef __OPTIMIZE_SIZE__
        for (; count >= 4; count -= 4, in += 4) {
            MK_SPARSE_INDEXED(0);
            MK_SPARSE_INDEXED(1);
            MK_SPARSE_INDEXED(2);
            MK_SPARSE_INDEXED(3);
        }
#endif
        for (; count > 0; --count, ++in) MK_SPARSE_INDEXED(0);
    } else {
#ifdef __OPTIMIZE_SIZE__
        for (; count >= 4; count -= 4, in += 8) {
            MK_SPARSE_PLAIN(0);
            MK_SPARSE_PLAIN(1);
            MK_SPARSE_PLAIN(2);
            MK_SPARSE_PLAIN(3);
        }
#endif
        for (; count > 0; --count, in += 2) MK_SPARSE_PLAIN(0);
    }
    r->in = in;
    return acc;
}
#undef MK_SPARSE_INDEXED
#undef MK_SPARSE_PLAIN
#undef MK_SPARSE_PASS
#undef MK_SPARSE_ROW
