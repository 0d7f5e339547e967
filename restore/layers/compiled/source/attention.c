/* Attention inside windows: memory, threads, and the choice of the code for this processor. */
#include "attention.h"
#include <stdlib.h>
#include <string.h>

#ifdef __cplusplus
#error "C, not C++"
#endif

extern const struct kernels restore_kernels_avx512, restore_kernels_avx2, restore_kernels_neon;

enum { NONE, NEON, AVX2, AVX512 };

static int supported(void)
{
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma"))
        return NONE;
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512vl"))
        return AVX512;
    return AVX2;
#elif defined(__aarch64__)
    return NEON;
#else
    return NONE;
#endif
}

static const struct kernels *kernels_of(int processor)
{
#if defined(__x86_64__)
    if (processor == AVX512)
        return &restore_kernels_avx512;
    if (processor == AVX2)
        return &restore_kernels_avx2;
#elif defined(__aarch64__)
    if (processor == NEON)
        return &restore_kernels_neon;
#endif
    return NULL;
}

/* The best code that this processor can run: 0 none, 1 NEON, 2 AVX2, 3 AVX-512. */
__attribute__((visibility("default"))) int restore_processor(void) { return supported(); }

/* One call. Work is handed out in pieces, whoever comes first: a thread that has to wait for a core holds up none. */
struct call {
    const struct attention *a;
    const struct kernels *kernels;
    struct tables tables;
    float *table_memory, *bias_gradients; /* (slices, h, N, padded) */
    unsigned char *masking;
    int64_t pieces, slices, next;
    void (*work)(struct call *, int64_t piece, float *workspace);
    int failed;
};

static void *aligned(size_t bytes) { return aligned_alloc(64, (bytes + 63) / 64 * 64); }

static void run(void *data)
{
    struct call *c = data;
    size_t bytes = sizeof(float) * (size_t)c->kernels->workspace(c->a);
    float *workspace = aligned(bytes);
    if (!workspace) {
        __atomic_store_n(&c->failed, 1, __ATOMIC_RELAXED);
        return;
    }
    memset(workspace, 0, bytes); /* what is padded stays zero */
    for (;;) {
        int64_t piece = __atomic_fetch_add(&c->next, 1, __ATOMIC_RELAXED);
        if (piece >= c->pieces)
            break;
        c->work(c, piece, workspace);
    }
    free(workspace);
}

static void share(struct call *c, int64_t pieces, void (*work)(struct call *, int64_t, float *))
{
    c->pieces = pieces;
    c->next = 0;
    c->work = work;
    if (c->a->parallel && c->a->num_threads > 1)
        c->a->parallel(run, c, (unsigned)c->a->num_threads, 0);
    else
        run(c);
}

static void make_table(struct call *c, int64_t piece, float *workspace)
{
    (void)workspace;
    const struct attention *a = c->a;
    int64_t biases = a->bias ? a->num_heads : 0, square = a->num_tokens * a->num_tokens;
    const float *from = piece < biases ? a->bias + piece * square : a->masks + (piece - biases) * square;
    if (piece >= biases) {
        unsigned char any = 0;
        for (int64_t i = 0; i < square && !any; i++)
            any = from[i] != 0;
        c->masking[piece - biases] = any;
        if (!any)
            return;
    }
    c->kernels->table(from, a->num_tokens, c->table_memory + piece * a->num_tokens * c->tables.padded,
                      c->tables.padded);
}

static int64_t class_of(const struct attention *a, int64_t window)
{
    int64_t kind = 0;
    while (kind + 1 < a->num_classes && window >= a->counts[kind])
        window -= a->counts[kind++];
    return kind;
}

/* All heads of a window, so that its rows are read once; the pieces are much more than the threads. */
static void forward_piece(struct call *c, int64_t piece, float *workspace)
{
    const struct attention *a = c->a;
    int64_t items = a->num_windows * a->num_heads;
    for (int64_t item = items * piece / c->pieces; item < items * (piece + 1) / c->pieces; item++) {
        int64_t window = item / a->num_heads;
        c->kernels->forward(a, &c->tables, window, item % a->num_heads, class_of(a, window), workspace);
    }
}

/* One slice sums the gradient of the bias in memory of its own: the same numbers in the same order every time. */
static void backward_piece(struct call *c, int64_t piece, float *workspace)
{
    const struct attention *a = c->a;
    int64_t items = a->num_windows * a->num_heads, size = a->num_heads * a->num_tokens * c->tables.padded;
    float *bias_gradient = c->bias_gradients ? c->bias_gradients + piece * size : NULL;
    for (int64_t item = items * piece / c->pieces; item < items * (piece + 1) / c->pieces; item++) {
        int64_t window = item / a->num_heads;
        c->kernels->backward(a, &c->tables, window, item % a->num_heads, class_of(a, window), workspace,
                             bias_gradient);
    }
}

static void sum_slices(struct call *c, int64_t head, float *workspace)
{
    (void)workspace;
    const struct attention *a = c->a;
    int64_t N = a->num_tokens, padded = c->tables.padded, size = a->num_heads * N * padded;
    for (int64_t k = 0; k < N; k++)
        for (int64_t q = 0; q < N; q++) {
            const float *at = c->bias_gradients + (head * N + k) * padded + q;
            float sum = at[0];
            for (int64_t slice = 1; slice < c->slices; slice++)
                sum += at[slice * size];
            a->bias_gradient[(head * N + q) * N + k] = sum;
        }
}

static int64_t pieces_for(const struct attention *a)
{
    int64_t items = a->num_windows * a->num_heads, pieces = a->num_threads > 1 ? 16 * (int64_t)a->num_threads : 1;
    return pieces < items ? pieces : items;
}

/* Forward, or backward where there is a gradient. Gives 0; 1 without memory; 2 on a processor without code for it. */
__attribute__((visibility("default"))) int restore_window_attention(const struct attention *a)
{
    struct call c = {.a = a, .kernels = kernels_of(a->processor)};
    if (!c.kernels)
        return 2;
    int64_t N = a->num_tokens, lanes = c.kernels->lanes, padded = (N + lanes - 1) / lanes * lanes;
    int64_t biases = a->bias ? a->num_heads : 0, masks = a->masks ? a->num_classes : 0;
    c.tables.padded = padded;
    if (biases + masks) {
        c.table_memory = aligned(sizeof(float) * (size_t)((biases + masks) * N * padded));
        c.masking = calloc((size_t)masks + 1, 1);
        if (!c.table_memory || !c.masking) {
            c.failed = 1;
            goto end;
        }
        c.tables.bias = a->bias ? c.table_memory : NULL;
        c.tables.masks = a->masks ? c.table_memory + biases * N * padded : NULL;
        c.tables.masking = c.masking;
        share(&c, biases + masks, make_table);
    }
    if (!a->gradient)
        share(&c, pieces_for(a), forward_piece);
    else {
        int64_t items = a->num_windows * a->num_heads;
        c.slices = pieces_for(a);
        if (a->bias_gradient) {
            c.slices = a->num_threads < items ? a->num_threads : items;
            c.bias_gradients = calloc((size_t)(c.slices * a->num_heads * N * padded), sizeof(float));
            if (!c.bias_gradients) {
                c.failed = 1;
                goto end;
            }
        }
        share(&c, c.slices, backward_piece);
        if (a->bias_gradient)
            share(&c, a->num_heads, sum_slices);
    }
end:
    free(c.table_memory);
    free(c.masking);
    free(c.bias_gradients);
    return c.failed;
}
