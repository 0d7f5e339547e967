/* What gate.c (threads) and the code for each kind of processor (gate.inc) share. */
#ifndef RESTORE_GATE_H
#define RESTORE_GATE_H

#include "attention.h"

/* out = place = x + change * (sigmoid(change) + 1/2) on rows of C numbers; the rows of `place` lie `place_stride` apart.
 *
 * Read by restore/layers/compiled/library.py. */
struct gate {
    int64_t num_rows, channels, place_stride;
    const void *x, *change;
    void *out;
    void *place; /* or NULL */
    struct threads threads;
    int32_t type, processor;
};

#endif
