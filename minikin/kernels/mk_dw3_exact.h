/* The model has depthwise layers of 3x3 of the exact form: see mk_depthwise_conv2d_s8_dsp.h. */
#define MK_DW3_EXACT 1
