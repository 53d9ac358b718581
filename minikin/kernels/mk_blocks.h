/* Weights of which every block of four inputs has at most `count`, 1 or 2, that are not zero: N:M sparsity.
 *
 * For each block `count` places of two bits, from the lowest bit on, whole bytes for each channel; and as many codes.
 */
struct mk_blocks {
    const uint8_t *places;
    const int8_t *values;
    int32_t count;
};

struct mk_blocks_reader {
    const uint8_t *places;
    const int8_t *values;
    int32_t count;
};

static inline struct mk_blocks_reader mk_blocks_start(const struct mk_blocks *p) {
    const struct mk_blocks_reader r = {p->places, p->values, p->count};
    return r;
}

/* The sum of the inputs x times the weights of the next channel of `size`, a multiple of four. */
static inline uint32_t mk_blocks_row(struct mk_blocks_reader *r, const int8_t *x, int size) {
    const int8_t *w = r->values;
    const int count = r->count, step = 16 / count; /* inputs of a byte of places */
    const int second = count == 1 ? 4 : 0, third = count == 1 ? 8 : 4, fourth = count == 1 ? 12 : 4;
    uint32_t acc = 0;
    for (; size >= step; size -= step, x += step, w += 4) {
        const uint32_t places = *r->places++;
        acc += (uint32_t)(x[places & 3] * w[0]);
        acc += (uint32_t)(x[second + (places >> 2 & 3)] * w[1]);
        acc += (uint32_t)(x[third + (places >> 4 & 3)] * w[2]);
        acc += (uint32_t)(x[fourth + (places >> 6)] * w[3]);
    }
    if (size > 0) {
        uint32_t places = *r->places++;
        for (int i = 0; i < size / 4 * count; ++i, places >>= 2) acc += (uint32_t)(x[i / count * 4 + (places & 3)] * *w++);
    }
    r->values = w;
    return acc;
}
