/* The model has dense layers of the form MK_MAT_EXACT: see mk_mat_s8.h. */
#ifndef MK_MAT1_EXACT
#define MK_MAT1_EXACT 1
#endif
