/* Work in pieces for the threads of torch: whoever is free takes the next, so one that waits for a core holds up none. */
#ifndef RESTORE_THREADS_H
#define RESTORE_THREADS_H

#include <stddef.h>
#include <stdint.h>

/* GOMP_parallel of the OpenMP that torch is linked with; NULL for the calling thread alone. */
typedef void (*parallel_function)(void (*work)(void *), void *data, unsigned num_threads, unsigned flags);

struct threads {
    parallel_function parallel;
    int64_t num_threads;
};

typedef void (*piece_function)(void *context, int64_t piece, float *workspace);

/* Memory for vectors, freed by free(); NULL where there is none. */
void *restore_aligned(size_t bytes);

/* Call work(context, 0 .. pieces - 1, workspace of so many floats, zero at first). Gives 1 where memory lacks. */
int restore_share(const struct threads *threads, int64_t pieces, piece_function work, void *context, int64_t floats);

/* How many pieces `items` are cut into: many more than threads, and one for one thread. */
int64_t restore_pieces(const struct threads *threads, int64_t items);

#endif
