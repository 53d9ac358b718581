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

/* The sum of the inputs x times the weights of the next channel of `size`. */
static inline uint32_t mk_sparse_row(struct mk_sparse_reader *r, const int8_t *x, int size) {
    (void)size;
    const uint8_t *in = r->in;
    const int8_t *codebook = r->codebook;
    uint32_t acc = 0;
    int count = *r->counts++;
    if (codebook) {
        const uint32_t bits = (uint32_t)r->bits, mask = (1u << bits) - 1;
        for (; count > 0; --count) {
            const uint32_t entry = *in++;
            x += entry >> bits;
            acc += (uint32_t)(*x++ * codebook[entry & mask]);
        }
    } else {
        for (; count > 0; --count, in += 2) {
            x += in[0];
            acc += (uint32_t)(*x++ * (int8_t)in[1]);
        }
    }
    r->in = in;
    return acc;
}
