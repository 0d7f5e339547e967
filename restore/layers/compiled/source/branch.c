/* A residual branch: memory and threads. */
#include "branch.h"
#include "kernels.h"
#include <stdlib.h>

struct branch_call {
    const struct branch *b;
    const struct kernels *kernels;
    struct packed packed;
    struct prepared prepared;
    int64_t pieces, items;
};

static void pack_piece(void *context, int64_t piece, float *workspace)
{
    (void)workspace;
    struct branch_call *c = context;
    c->kernels->pack_branch(c->b, &c->packed, piece);
}

static void branch_piece(void *context, int64_t piece, float *workspace)
{
    struct branch_call *c = context;
    const struct attention *a = &c->b->attention;
    unsigned long before = c->kernels->enter();
    for (int64_t item = c->items * piece / c->pieces; item < c->items * (piece + 1) / c->pieces; item++)
        c->kernels->run_branch(c->b, &c->packed, &c->prepared.tables, item,
                               a->num_windows ? restore_class_of(a, item) : 0, workspace);
    c->kernels->leave(before);
}

/* Gives 0; 1 without memory; 2 on a processor without code for it. */
__attribute__((visibility("default"))) int restore_branch(const struct branch *b)
{
    const struct attention *a = &b->attention;
    struct branch_call c = {.b = b, .kernels = restore_kernels_of(a)};
    if (!c.kernels)
        return 2;
    int64_t lanes = c.kernels->lanes, inner = a->num_windows ? b->channels : b->hidden;
    int64_t width = (b->channels + lanes - 1) / lanes * lanes, hidden = (b->hidden + lanes - 1) / lanes * lanes;
    int64_t first = (b->channels + 31) / 32 * 32, second = (inner + 31) / 32 * 32; /* inputs of matrix tiles */
    int64_t sizes[] = {hidden * first, hidden, width * second, width, 3 * width}, total = 0;
    for (int i = 0; i < 5; i++)
        total += sizes[i];
    float *memory = calloc((size_t)total + 16, sizeof(float)), *at = memory;
    if (!memory)
        return 1;
    float **parts[] = {&c.packed.first, &c.packed.first_bias, &c.packed.second, &c.packed.second_bias, &c.packed.norm};
    for (int i = 0; i < 5; at += sizes[i++])
        *parts[i] = at;
    int failed = restore_share(&a->threads, 2, pack_piece, &c, 0);
    if (a->num_windows)
        failed |= restore_prepare(a, c.kernels, &c.prepared);
    c.items = a->num_windows ? a->num_windows : (b->num_rows + ROWS_AT_ONCE - 1) / ROWS_AT_ONCE;
    c.pieces = restore_pieces(&a->threads, c.items);
    if (!failed)
        failed = restore_share(&a->threads, c.pieces, branch_piece, &c, c.kernels->branch_workspace(b));
    restore_forget(&c.prepared);
    free(memory);
    return failed;
}
