/* The model has convolutions of the form MK_MAT_EXACT, which take pixels in pairs and alone: see mk_mat_s8.h. */
#define MK_MAT2_EXACT 1
#ifndef MK_MAT1_EXACT
#define MK_MAT1_EXACT 1
#endif
