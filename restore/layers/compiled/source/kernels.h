/* The code for one kind of processor, and what is prepared for it once for each call. */
#ifndef RESTORE_KERNELS_H
#define RESTORE_KERNELS_H

#include "branch.h"
#include "convolution.h"
#include "gate.h"
#include "layer_norm.h"

/* In bfloat16 kernels of their own multiply, without gradients, where the processor has products of it. */
struct kernels {
    int64_t lanes;
    unsigned long (*enter)(void); /* around all that a thread computes: denormal numbers are zeros there */
    void (*leave)(unsigned long before);
    int64_t (*workspace)(const struct attention *a); /* floats that one thread needs */
    void (*table)(const float *square, int64_t num_tokens, float *transposed, int64_t padded);
    void (*forward)(const struct attention *a, const struct tables *t, int64_t window, int64_t head, int64_t kind,
                    float *work);
    void (*backward)(const struct attention *a, const struct tables *t, int64_t window, int64_t head, int64_t kind,
                     float *work, float *bias_gradient); /* (h, N keys, padded queries), added to; or NULL */
    int64_t (*branch_workspace)(const struct branch *b);
    void (*pack_branch)(const struct branch *b, struct packed *p, int64_t part); /* 0 and 1 */
    void (*run_branch)(const struct branch *b, const struct packed *p, const struct tables *t, int64_t piece,
                       int64_t kind, float *work);
    /* rows from .. to; sums of the gradients of weight and bias, padded to lanes, are added to, or NULL */
    void (*layer_norm)(const struct layer_norm *b, int64_t from, int64_t to, float *of_weight, float *of_bias);
    int64_t (*convolution_workspace)(const struct convolution *c, int64_t at_once);
    void (*pack_convolution)(const struct convolution *c, int64_t position, float *work);
    void (*run_convolution)(const struct convolution *c, const struct tiles_of_2x2 *tiles, int64_t first, int64_t count,
                            const float *zeros, float *work);
    void (*gate)(const struct gate *g, int64_t from, int64_t to);
};

#ifdef TILES
#define enter enter_tiles
#define leave leave_tiles
#endif
#ifdef SINGLES
#define GRADIENTS backward
#define NORM layer_norm
#define CONVOLUTION convolution_workspace, pack_convolution, run_convolution
#define GATE gate
#else
#define GRADIENTS NULL
#define NORM NULL
#define CONVOLUTION NULL, NULL, NULL
#define GATE NULL
#endif
#define KERNELS \
    {LANES, enter, leave, tiled_workspace, table, forward_tiles, GRADIENTS, branch_workspace, pack_branch, run_branch, \
     NORM, CONVOLUTION, GATE}

struct prepared {
    struct tables tables;
    float *memory;
    unsigned char *masking;
};

const struct kernels *restore_kernels_of(const struct attention *a);
int64_t restore_class_of(const struct attention *a, int64_t window);
int restore_prepare(const struct attention *a, const struct kernels *kernels, struct prepared *prepared);
void restore_forget(struct prepared *prepared);

#endif
