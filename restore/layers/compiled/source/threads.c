#include "threads.h"
#include <stdlib.h>
#include <string.h>

struct share {
    piece_function work;
    void *context;
    int64_t pieces, next;
    size_t bytes;
    int failed;
};

void *restore_aligned(size_t bytes) { return aligned_alloc(64, (bytes + 64) / 64 * 64); }

static void run(void *data)
{
    struct share *share = data;
    float *workspace = restore_aligned(share->bytes);
    if (!workspace) {
        __atomic_store_n(&share->failed, 1, __ATOMIC_RELAXED);
        return;
    }
    memset(workspace, 0, share->bytes); /* what is padded stays zero */
    for (;;) {
        int64_t piece = __atomic_fetch_add(&share->next, 1, __ATOMIC_RELAXED);
        if (piece >= share->pieces)
            break;
        share->work(share->context, piece, workspace);
    }
    free(workspace);
}

int restore_share(const struct threads *threads, int64_t pieces, piece_function work, void *context, int64_t floats)
{
    struct share share = {work, context, pieces, 0, sizeof(float) * (size_t)floats, 0};
    if (threads->parallel && threads->num_threads > 1)
        threads->parallel(run, &share, (unsigned)threads->num_threads, 0);
    else
        run(&share);
    return share.failed;
}

int64_t restore_pieces(const struct threads *threads, int64_t items)
{
    int64_t pieces = threads->num_threads > 1 ? 16 * (int64_t)threads->num_threads : 1;
    return pieces < items ? pieces : items;
}
