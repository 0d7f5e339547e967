/* What layer_norm.c (threads, memory) and the code for each kind of processor (layer_norm.inc) share. */
#ifndef RESTORE_LAYER_NORM_H
#define RESTORE_LAYER_NORM_H

#include "attention.h"

/* Rows of C numbers, each less its mean, over its standard deviation, times weight, plus bias; and the gradients.
 *
 * Read by restore/layers/compiled/library.py. */
struct layer_norm {
    int64_t num_rows, channels;
    const void *x;             /* (rows, C), of `type`, as out and the gradients of these two are */
    void *out;
    const void *gradient;      /* of out; NULL forward */
    void *x_gradient;
    float *statistics;         /* (rows, 2): mean, and 1 over the deviation: written forward where not NULL, read backward */
    const float *weight, *bias; /* (C), or NULL for ones and zeros */
    float *affine_gradient;    /* (2, C): of weight and bias, or NULL */
    struct threads threads;
    float epsilon;
    int32_t type, processor, unused;
};

#endif
