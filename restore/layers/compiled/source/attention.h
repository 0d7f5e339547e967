/* What attention.c (threads, memory) and the code for each kind of processor (attention.inc) share. */
#ifndef RESTORE_ATTENTION_H
#define RESTORE_ATTENTION_H

#include "threads.h"

enum { FLOAT32 = 0, BFLOAT16 = 1 };

/* Attention inside windows of N tokens, h heads of d channels each.
 *
 * A row is a token: queries, keys and values side by side, each (h, d). Token t of window w is row order[w * N + t], or
 * row w * N + t where order is NULL; outputs and gradients lie in the same rows. Windows of one class follow each other
 * and have one mask. Strides are in elements; rows are contiguous. Read by restore/layers/compiled/library.py. */
struct attention {
    int64_t num_windows, num_tokens, num_heads, head_dim, num_classes;
    int64_t qkv_stride, out_stride, gradient_stride, qkv_gradient_stride;
    const void *qkv;
    void *out;
    const void *gradient;  /* of the output; NULL forward */
    void *qkv_gradient;
    float *bias_gradient;  /* (h, N, N), or NULL */
    const float *bias;     /* (h, N, N), or NULL */
    const float *masks;    /* (classes, N, N), or NULL */
    const int64_t *order;  /* (windows * N), or NULL */
    const int64_t *counts; /* windows of each class */
    struct threads threads;
    float scale;           /* of the scores */
    int32_t type;          /* of what is read and written */
    int32_t arithmetic;    /* BFLOAT16: products of these may be taken, summed in float32 */
    int32_t processor;
};

/* The biases and masks as the kernels read them: transposed, times log2(e), rows of `padded` queries. */
struct tables {
    const float *bias;            /* (h, N keys, padded queries), or NULL */
    const float *masks;           /* (classes, N keys, padded queries), or NULL */
    const unsigned char *masking; /* whether the mask of a class is anywhere but zero */
    int64_t padded;
};

#endif
