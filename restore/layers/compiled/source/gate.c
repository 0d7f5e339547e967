/* A gate: threads. */
#include "gate.h"
#include "kernels.h"

#define ROWS_OF_PIECE 512

struct gate_call {
    const struct gate *g;
    const struct kernels *kernels;
};

static void gate_piece(void *context, int64_t piece, float *workspace)
{
    (void)workspace;
    struct gate_call *call = context;
    int64_t from = piece * ROWS_OF_PIECE, to = from + ROWS_OF_PIECE;
    unsigned long before = call->kernels->enter();
    call->kernels->gate(call->g, from, to < call->g->num_rows ? to : call->g->num_rows);
    call->kernels->leave(before);
}

/* Gives 0; 1 without memory; 2 on a processor without code for it. */
__attribute__((visibility("default"))) int restore_gate(const struct gate *g)
{
    const struct attention without_products = {.processor = g->processor, .arithmetic = FLOAT32};
    struct gate_call call = {g, restore_kernels_of(&without_products)};
    if (!call.kernels)
        return 2;
    return restore_share(&g->threads, (g->num_rows + ROWS_OF_PIECE - 1) / ROWS_OF_PIECE, gate_piece, &call, 0);
}
