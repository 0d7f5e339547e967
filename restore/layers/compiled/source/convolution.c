/* A convolution of 3 x 3: memory and threads. */
#include "convolution.h"
#include "kernels.h"
#include <stdlib.h>

#define WORKSPACE_FLOATS (1 << 18) /* about half of a second-level cache of 2 MiB */
#define MOST_AT_ONCE 96

struct convolution_call {
    const struct convolution *c;
    const struct kernels *kernels;
    struct tiles_of_2x2 tiles;
    float *zeros;
    int64_t items, pieces;
};

static const struct kernels *kernels_of(const struct convolution *c)
{
    const struct attention of_float32 = {.processor = c->processor, .arithmetic = FLOAT32};
    return restore_kernels_of(&of_float32);
}

static int64_t padded(int64_t n, const struct kernels *kernels)
{
    return (n + kernels->lanes - 1) / kernels->lanes * kernels->lanes;
}

/* Floats that the packed weights take; 0 on a processor without code. */
__attribute__((visibility("default"))) int64_t restore_packed_convolution(const struct convolution *c)
{
    const struct kernels *kernels = kernels_of(c);
    return kernels ? POSITIONS * padded(c->outputs, kernels) * c->inputs : 0;
}

static void pack_position(void *context, int64_t position, float *workspace)
{
    struct convolution_call *call = context;
    call->kernels->pack_convolution(call->c, position, workspace);
}

/* Write `packed`. Gives 0; 1 without memory; 2 on a processor without code for it. */
__attribute__((visibility("default"))) int restore_pack_convolution(const struct convolution *c)
{
    struct convolution_call call = {.c = c, .kernels = kernels_of(c)};
    if (!call.kernels)
        return 2;
    return restore_share(&c->threads, POSITIONS, pack_position, &call, padded(c->outputs, call.kernels));
}

static void convolution_piece(void *context, int64_t piece, float *workspace)
{
    struct convolution_call *call = context;
    const struct tiles_of_2x2 *tiles = &call->tiles;
    unsigned long before = call->kernels->enter();
    for (int64_t item = call->items * piece / call->pieces; item < call->items * (piece + 1) / call->pieces; item++) {
        int64_t first = tiles->all * item / call->items, end = tiles->all * (item + 1) / call->items;
        call->kernels->run_convolution(call->c, tiles, first, end - first, call->zeros, workspace);
    }
    call->kernels->leave(before);
}

/* Gives 0; 1 without memory; 2 on a processor without code for it. */
__attribute__((visibility("default"))) int restore_convolution(const struct convolution *c)
{
    struct convolution_call call = {.c = c, .kernels = kernels_of(c)};
    if (!call.kernels)
        return 2;
    int64_t inputs = padded(c->inputs, call.kernels), outputs = padded(c->outputs, call.kernels);
    int64_t rows = (c->height + 1) / 2, columns = (c->width + 1) / 2;
    int64_t at_once = WORKSPACE_FLOATS / (POSITIONS * (inputs + outputs)) / 12 * 12;
    at_once = at_once < 12 ? 12 : at_once > MOST_AT_ONCE ? MOST_AT_ONCE : at_once;
    call.tiles = (struct tiles_of_2x2){rows, columns, c->num_images * rows * columns, at_once};
    call.items = (call.tiles.all + at_once - 1) / at_once;
    call.pieces = restore_pieces(&c->threads, call.items);
    call.zeros = calloc((size_t)(inputs > outputs ? inputs : outputs), sizeof(float));
    if (!call.zeros)
        return 1;
    int failed = restore_share(&c->threads, call.pieces, convolution_piece, &call,
                               call.kernels->convolution_workspace(c, at_once));
    free(call.zeros);
    return failed;
}
