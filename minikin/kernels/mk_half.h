/* The model has layers whose float32 weights are all halves, and stored so: IEEE 754's binary16, finite. */
#define MK_HALF 1

/* The float that a half is, exactly: a subnormal one is so many times 2^-24. */
static inline float mk_half_f32(uint16_t half) {
    union {
        uint32_t bits;
        float value;
    } x;
    const uint32_t magnitude = half & 0x7FFFu;
    if (magnitude < 0x400)
        x.value = (float)(int32_t)magnitude * 5.9604644775390625e-8f;
    else
        x.bits = (magnitude << 13) + (112u << 23);
    x.bits |= (uint32_t)(half >> 15) << 31;
    return x.value;
}
