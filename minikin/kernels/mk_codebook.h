/* Weights as indices of a codebook: `bits` bits each, from the lowest bit on. Groups of four channels (the last may have fewer)
 * lie one behind the other; in a group comes input by input, of each input channel by channel.
 */
struct mk_codebook {
    const uint8_t *indices;
    const int8_t *codebook; /* null where there are only nonzero weights (mk_codebook_value): they are the codes themselves */
    int32_t bits;           /* 1 to 5 */
};

/* Indices being read: the next ones are the low `have` bits of `word`. */
struct mk_codebook_reader {
    const uint8_t *in;
    const int8_t *codebook;
    uint32_t word;
    int32_t have, bits;
};

static inline struct mk_codebook_reader mk_codebook_start(const struct mk_codebook *p) {
    const struct mk_codebook_reader r = {p->indices, p->codebook, 0, 0, p->bits};
    return r;
}

/* Make sure of `bits` bits, at most 25. */
static inline void mk_codebook_need(struct mk_codebook_reader *r, int bits) {
    for (; r->have < bits; r->have += 8) r->word |= (uint32_t)*r->in++ << r->have;
}

/* The next weight, of whose bits mk_codebook_need has made sure. */
static inline int32_t mk_codebook_take(struct mk_codebook_reader *r) {
    const int32_t weight = r->codebook[r->word & ((1u << r->bits) - 1)];
    r->word >>= r->bits, r->have -= r->bits;
    return weight;
}

static inline int32_t mk_codebook_next(struct mk_codebook_reader *r) {
    mk_codebook_need(r, r->bits);
    return mk_codebook_take(r);
}

/* The same, or the next code where there is no codebook. */
static inline int32_t mk_codebook_value(struct mk_codebook_reader *r) {
    return r->codebook ? mk_codebook_next(r) : (int8_t)*r->in++;
}

/* The next group of `count` channels, the weights of each side by side: to[channel * size + input]. */
__attribute__((unused)) static void mk_codebook_rows(struct mk_codebook_reader *reader, int8_t *to, int size, int count) {
    struct mk_codebook_reader r = *reader;
    for (int k = 0; k < size; ++k, ++to)
        for (int i = 0; i < count; ++i) to[i * size] = (int8_t)mk_codebook_next(&r);
    *reader = r;
}
