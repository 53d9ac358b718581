/* The model has depthwise layers of 3x3 whose outputs are multiplied at once: see mk_depthwise_conv2d_s8_dsp.h. */
#define MK_DW3_WORDS 1
