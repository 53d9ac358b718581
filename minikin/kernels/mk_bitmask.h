/* Weights as a bit for each, 1 where it is not zero, from the lowest bit on, whole bytes for each channel; and the nonzero ones
 * one behind the other (mk_codebook.h).
 */
struct mk_bitmask {
    const uint8_t *mask;
    struct mk_codebook codes;
};

struct mk_bitmask_reader {
    const uint8_t *mask;
    struct mk_codebook_reader codes;
};

static inline struct mk_bitmask_reader mk_bitmask_start(const struct mk_bitmask *p) {
    const struct mk_bitmask_reader r = {p->mask, mk_codebook_start(&p->codes)};
    return r;
}

/* The sum of the inputs x times the weights of the next channel of `size`. */
static inline uint32_t mk_bitmask_row(struct mk_bitmask_reader *r, const int8_t *x, int size) {
    struct mk_codebook_reader codes = r->codes;
    uint32_t acc = 0;
    for (int k = 0; k < size; k += 8) {
        const int8_t *at = x + k;
        for (uint32_t mask = *r->mask++; mask; mask >>= 1, ++at)
            if (mask & 1) acc += (uint32_t)(*at * mk_codebook_value(&codes));
    }
    r->codes = codes;
    return acc;
}

/* The weights of the next channel of `size`. */
__attribute__((unused)) static void mk_bitmask_expand(struct mk_bitmask_reader *r, int8_t *to, int size) {
    struct mk_codebook_reader codes = r->codes;
    uint32_t mask = 0;
    for (int k = 0; k < size; ++k, mask >>= 1) {
        if ((k & 7) == 0) mask = *r->mask++;
        to[k] = (int8_t)(mask & 1 ? mk_codebook_value(&codes) : 0);
    }
    r->codes = codes;
}
