/* What branch.c and branch.inc share. */
#ifndef RESTORE_BRANCH_H
#define RESTORE_BRANCH_H

#include "attention.h"

/* A residual branch behind a layer norm: out = x + second(middle(first(norm(x)))), on rows of C numbers.
 *
 * The middle is attention of windows where attention.num_windows is not 0 (whose qkv and out are not read; first has 3C
 * outputs), and GELU otherwise. Linear maps have weights (outputs, inputs). Rows and strides as in attention.h. */
struct branch {
    struct attention attention;
    int64_t num_rows, channels, hidden; /* outputs of the first map; inputs of the second: C with attention */
    int64_t x_stride, out_stride;
    const void *x; /* and out, of attention.type */
    void *out;
    const float *norm_weight, *norm_bias; /* (C) */
    const float *table;                   /* (N, C) added to the normed rows of each window, or NULL */
    const float *first_weight, *first_bias, *second_weight, *second_bias; /* biases may be NULL */
    float epsilon, unused;
};

/* Both maps as the kernels read them, and the norm padded with zeros. */
struct packed {
    float *first, *first_bias, *second, *second_bias, *norm; /* norm: weight, bias, and 1 for what is no padding */
};

#define ROWS_AT_ONCE 64 /* without windows */

#endif
