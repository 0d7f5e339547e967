/* Layer norm: memory and threads. */
#include "layer_norm.h"
#include "kernels.h"
#include <stdlib.h>

#define ROWS_OF_PIECE 256 /* whatever the number of threads, so that sums are taken in one order */
#define MOST_PIECES 64

struct norm_call {
    const struct layer_norm *b;
    const struct kernels *kernels;
    float *sums; /* (pieces, 2, width) */
    int64_t pieces, width;
};

static void norm_piece(void *context, int64_t piece, float *workspace)
{
    (void)workspace;
    struct norm_call *c = context;
    float *sums = c->sums ? c->sums + piece * 2 * c->width : NULL;
    int64_t rows = c->b->num_rows;
    unsigned long before = c->kernels->enter();
    c->kernels->layer_norm(c->b, rows * piece / c->pieces, rows * (piece + 1) / c->pieces, sums,
                           sums ? sums + c->width : NULL);
    c->kernels->leave(before);
}

/* Gives 0; 1 without memory; 2 on a processor without code for it. */
__attribute__((visibility("default"))) int restore_layer_norm(const struct layer_norm *b)
{
    const struct attention without_products = {.processor = b->processor, .arithmetic = FLOAT32};
    struct norm_call c = {.b = b, .kernels = restore_kernels_of(&without_products)};
    if (!c.kernels)
        return 2;
    c.pieces = (b->num_rows + ROWS_OF_PIECE - 1) / ROWS_OF_PIECE;
    c.pieces = c.pieces < MOST_PIECES ? c.pieces : MOST_PIECES;
    c.width = (b->channels + c.kernels->lanes - 1) / c.kernels->lanes * c.kernels->lanes;
    if (b->affine_gradient) {
        size_t bytes = sizeof(float) * (size_t)(c.pieces * 2 * c.width);
        c.sums = calloc(bytes + 64, 1);
        if (!c.sums)
            return 1;
    }
    int failed = restore_share(&b->threads, c.pieces, norm_piece, &c, 0);
    for (int64_t part = 0; c.sums && part < 2; part++)
        for (int64_t j = 0; j < b->channels; j++) {
            float sum = 0;
            for (int64_t piece = 0; piece < c.pieces; piece++)
                sum += c.sums[(piece * 2 + part) * c.width + j];
            b->affine_gradient[part * b->channels + j] = sum;
        }
    free(c.sums);
    return failed;
}
