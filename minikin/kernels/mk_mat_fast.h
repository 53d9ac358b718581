/* Flash for speed: longer inner loops in mk_mat_s8.h. */
#define MK_MAT_FAST 1
