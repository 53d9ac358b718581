/* The dense of mk_dense_s8.h whose weights are indices of a codebook (mk_codebook.h): each is used as it is unpacked. */
struct mk_dense_s8_codebook {
    int32_t batch, in_ch, out_ch;
    struct mk_requant requant;
    const int32_t *bias; /* with the input's zero point folded in */
    struct mk_codebook codes;
};

/* acc[i] += sum_k x[k] * (the weights of four channels, of four bits each); gives the place behind them. Not inlined: inside a
 * kernel's loops it would run short of registers. */
MK_SHARED const uint8_t *mk_dense_s8_codebook_nibbles(const uint8_t *in, const int8_t *codebook, uint32_t acc[4],
                                                      const int8_t *x, int n) {
    uint32_t a0 = acc[0], a1 = acc[1], a2 = acc[2], a3 = acc[3];
    for (const int8_t *end = x + n; x != end; in += 2) {
        const int32_t value = *x++;
        const uint32_t first = in[0], second = in[1];
        a0 += (uint32_t)(value * codebook[first & 15]);
        a1 += (uint32_t)(value * codebook[first >> 4]);
        a2 += (uint32_t)(value * codebook[second & 15]);
        a3 += (uint32_t)(value * codebook[second >> 4]);
    }
    acc[0] = a0, acc[1] = a1, acc[2] = a2, acc[3] = a3;
    return in;
}

/* The same with any number of bits. */
MK_SHARED void mk_dense_s8_codebook_four(struct mk_codebook_reader *reader, uint32_t acc[4], const int8_t *x, int n) {
    struct mk_codebook_reader r = *reader;
    uint32_t a0 = acc[0], a1 = acc[1], a2 = acc[2], a3 = acc[3];
    for (const int8_t *end = x + n; x != end;) {
        const int32_t value = *x++;
        mk_codebook_need(&r, 4 * r.bits);
        a0 += (uint32_t)(value * mk_codebook_take(&r));
        a1 += (uint32_t)(value * mk_codebook_take(&r));
        a2 += (uint32_t)(value * mk_codebook_take(&r));
        a3 += (uint32_t)(value * mk_codebook_take(&r));
    }
    acc[0] = a0, acc[1] = a1, acc[2] = a2, acc[3] = a3;
    *reader = r;
}

MK_KERNEL static void mk_dense_s8_codebook(const struct mk_dense_s8_codebook *p, const int8_t *in, int8_t *out) {
    for (int b = 0; b < p->batch; ++b, in += p->in_ch) {
        struct mk_codebook_reader reader = mk_codebook_start(&p->codes);
        for (int n = 0, count; n < p->out_ch; n += count) {
            uint32_t acc[4] = {0, 0, 0, 0};
            count = mk_min(4, p->out_ch - n);
            if (count == 4 && reader.bits == 4)
                reader.in = mk_dense_s8_codebook_nibbles(reader.in, reader.codebook, acc, in, p->in_ch);
            else if (count == 4)
                mk_dense_s8_codebook_four(&reader, acc, in, p->in_ch);
            else
                for (int k = 0; k < p->in_ch; ++k)
                    for (int i = 0; i < count; ++i) acc[i] += (uint32_t)(in[k] * mk_codebook_next(&reader));
            for (int i = 0; i < count; ++i)
                *out++ = mk_requant_s8(&p->requant, acc[i] + (uint32_t)p->bias[n + i], n + i);
        }
    }
}
