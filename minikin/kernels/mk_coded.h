/* Entropy-coded weights: gaps of zeros, values and biases as decisions of an adaptive binary range coder, in the order in which
 * a layer wants them. minikin/ops/coded.py says how they are made; decisions have probabilities of 12 bits in scratch memory.
 */
struct mk_coded {
    const uint8_t *data;
    int32_t bytes;
    const int8_t *codebook;               /* the nonzero codes; null: an index is a code + 2^(bits - 1) */
    int32_t bits;                         /* of an index */
    int32_t gap_bits, bias_bits;          /* of the longest gap + 1 and bias, less one; bias_bits -1: no biases */
    int32_t bias_shift;                   /* zero bits that all biases end in */
    int32_t biases, trees, decisions;     /* where their probabilities begin, behind those of gaps; how many there are */
    uint16_t *model;                      /* scratch */
};

/* The bytes being read; the next decisions are where `code` lies in `range`. */
struct mk_coded_bits {
    const uint8_t *in, *end;
    uint32_t range, code;
};

/* A layer being read: `gap` zeros come before the next value; `upper` says in which half of the codebook the last one was. */
struct mk_coded_reader {
    struct mk_coded_bits bits;
    const struct mk_coded *p;
    int32_t gap, upper;
};

/* One decision, whose probability of being 0 is at p. */
__attribute__((always_inline)) static inline int mk_coded_bit(struct mk_coded_bits *b, uint16_t *p) {
    const uint32_t chance = *p, bound = (b->range >> 12) * chance;
    const int bit = b->code >= bound;
    if (bit) {
        b->code -= bound, b->range -= bound;
        *p = (uint16_t)(chance - (chance >> 5));
    } else {
        b->range = bound;
        *p = (uint16_t)(chance + ((4096 - chance) >> 5));
    }
    if (b->range < 1u << 24) {
        b->range <<= 8;
        b->code = b->code << 8 | (b->in != b->end ? *b->in++ : 0u);
    }
    return bit;
}

/* A number from 0 on, as an Elias gamma code; its probabilities begin at p. */
MK_SHARED uint32_t mk_coded_number(struct mk_coded_bits *bits, uint16_t *p, int longest) {
    struct mk_coded_bits b = *bits;
    uint32_t n = 1;
    int size = 0;
    while (mk_coded_bit(&b, p + size)) ++size;
    p += longest + 1 + size * (size - 1) / 2;
    while (--size >= 0) n = 2 * n + (uint32_t)mk_coded_bit(&b, p + size);
    *bits = b;
    return n - 1;
}

/* The next nonzero weight; then the gap behind it is known. */
MK_SHARED int32_t mk_coded_value(struct mk_coded_reader *r) {
    struct mk_coded_bits b = r->bits;
    const struct mk_coded *p = r->p;
    uint16_t *tree = p->model + p->trees + (r->gap ? 0 : 35 * (1 + r->upper));
    int node = 1;
    for (int place = p->bits; place-- > 0;) node = 2 * node + mk_coded_bit(&b, tree + (node < 32 ? node : 32 + place));
    const int half = 1 << (p->bits - 1), index = node - 2 * half;
    r->bits = b;
    r->upper = index >= half;
    r->gap = (int32_t)mk_coded_number(&r->bits, p->model, p->gap_bits);
    return p->codebook ? p->codebook[index] : index - half;
}

static inline struct mk_coded_reader mk_coded_start(const struct mk_coded *p) {
    struct mk_coded_reader r = {{p->data, p->data + p->bytes, 0xFFFFFFFFu, 0}, p, 0, 0};
    for (int i = 0; i < 4; ++i) r.bits.code = r.bits.code << 8 | (r.bits.in != r.bits.end ? *r.bits.in++ : 0u);
    for (int i = 0; i < p->decisions; ++i) p->model[i] = 2048;
    r.gap = (int32_t)mk_coded_number(&r.bits, p->model, p->gap_bits);
    return r;
}

/* The bias of the next channel. */
static inline int32_t mk_coded_bias(struct mk_coded_reader *r) {
    const struct mk_coded *p = r->p;
    if (p->bias_bits < 0) return 0;
    const uint32_t n = mk_coded_number(&r->bits, p->model + p->biases, p->bias_bits);
    return (int32_t)((n >> 1 ^ (0u - (n & 1))) << p->bias_shift);
}

/* The weights of the next channel of `size`; the next value belongs to its input *next, and then to that of the channel behind. */
__attribute__((unused)) static void mk_coded_row(struct mk_coded_reader *r, int32_t *next, int8_t *to, int size) {
    int32_t k = *next;
    mk_fill_s8(to, 0, size);
    while (k < size) {
        to[k] = (int8_t)mk_coded_value(r);
        k += 1 + r->gap;
    }
    *next = k - size;
}
