/* What attention.c (threads, memory) and the code for each kind of processor (attention.inc) share. */
#ifndef RESTORE_ATTENTION_H
#define RESTORE_ATTENTION_H

#include <stdint.h>

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
    void (*parallel)(void (*work)(void *), void *data, unsigned num_threads, unsigned flags); /* GOMP_parallel */
    float scale;           /* of the scores */
    int32_t type, num_threads, processor;
};

/* The biases and masks as the kernels read them: transposed, times log2(e), rows of `padded` queries. */
struct tables {
    const float *bias;            /* (h, N keys, padded queries), or NULL */
    const float *masks;           /* (classes, N keys, padded queries), or NULL */
    const unsigned char *masking; /* whether the mask of a class is anywhere but zero */
    int64_t padded;
};

struct kernels {
    int64_t lanes;
    int64_t (*workspace)(const struct attention *a); /* floats that one thread needs */
    void (*table)(const float *square, int64_t num_tokens, float *transposed, int64_t padded);
    void (*forward)(const struct attention *a, const struct tables *t, int64_t window, int64_t head, int64_t kind,
                    float *work);
    void (*backward)(const struct attention *a, const struct tables *t, int64_t window, int64_t head, int64_t kind,
                     float *work, float *bias_gradient); /* (h, N keys, padded queries), added to; or NULL */
};

#endif
