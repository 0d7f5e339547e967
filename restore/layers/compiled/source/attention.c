/* Attention inside windows: memory, threads, and the choice of the code for this processor. */
#include "kernels.h"
#include "tiles.h"
#include <stdlib.h>

extern const struct kernels restore_kernels_amx, restore_kernels_avx512_bf16, restore_kernels_avx512, restore_kernels_avx2,
    restore_kernels_neon;

enum { NONE, NEON, AVX2, AVX512, AVX512_BF16, AMX };

#ifdef __x86_64__
#include <cpuid.h>

static int has_pairs(void)
{
#ifdef HAS_PAIRS
    unsigned a, b, c, d;
    return __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a >> 5 & 1);
#else
    return 0;
#endif
}
#endif

#ifdef HAS_TILES
#include <sys/syscall.h>
#include <unistd.h>

/* Tiles are in the processor, and the system lets this process use them. */
static int has_tiles(void)
{
    unsigned a, b, c, d;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || !(d >> 22 & 1) || !(d >> 24 & 1))
        return 0;
    return syscall(SYS_arch_prctl, 0x1023 /* ARCH_REQ_XCOMP_PERM */, 18 /* tile data */) == 0;
}
#elif defined(__x86_64__)
static int has_tiles(void) { return 0; }
#endif

static int supported(void)
{
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma"))
        return NONE;
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512vl"))
        return !has_pairs() ? AVX512 : has_tiles() ? AMX : AVX512_BF16;
    return AVX2;
#elif defined(__aarch64__)
    return NEON;
#else
    return NONE;
#endif
}

/* NULL on a processor without code. */
const struct kernels *restore_kernels_of(const struct attention *a)
{
    int processor = a->processor;
    if (processor > AVX512 && (a->arithmetic != BFLOAT16 || a->gradient))
        processor = AVX512; /* what multiplies bfloat16 does nothing else */
#if defined(__x86_64__)
#ifdef HAS_TILES
    if (processor == AMX)
        return &restore_kernels_amx;
#endif
#ifdef HAS_PAIRS
    if (processor == AVX512_BF16)
        return &restore_kernels_avx512_bf16;
#endif
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

/* The most that this processor can run: 0 none, 1 NEON, 2 AVX2, 3 AVX-512, 4 with bfloat16, 5 with AMX. */
__attribute__((visibility("default"))) int restore_processor(void) { return supported(); }

/* What it is taken to run fastest. A vector of products of pairs is meant to take as long as one of float32 on AMD's
 * processors; on one of Intel's, which has tiles for the purpose, it was measured to take at least twice as long. */
__attribute__((visibility("default"))) int restore_preferred(void)
{
    int most = supported();
#if defined(__x86_64__)
    if (most == AVX512_BF16 && !__builtin_cpu_is("amd"))
        return AVX512;
#endif
    return most;
}

struct table_call {
    const struct attention *a;
    const struct kernels *kernels;
    struct prepared *prepared;
};

static void make_table(void *context, int64_t piece, float *workspace)
{
    (void)workspace;
    struct table_call *c = context;
    const struct attention *a = c->a;
    int64_t biases = a->bias ? a->num_heads : 0, square = a->num_tokens * a->num_tokens;
    const float *from = piece < biases ? a->bias + piece * square : a->masks + (piece - biases) * square;
    if (piece >= biases) {
        unsigned char any = 0;
        for (int64_t i = 0; i < square && !any; i++)
            any = from[i] != 0;
        c->prepared->masking[piece - biases] = any;
        if (!any)
            return;
    }
    int64_t padded = c->prepared->tables.padded;
    c->kernels->table(from, a->num_tokens, c->prepared->memory + piece * a->num_tokens * padded, padded);
}

/* Transposed copies of bias and masks; freed by restore_forget. Gives 1 where memory lacks. */
int restore_prepare(const struct attention *a, const struct kernels *kernels, struct prepared *prepared)
{
    int64_t lanes = kernels->lanes, biases = a->bias ? a->num_heads : 0, masks = a->masks ? a->num_classes : 0;
    prepared->tables.padded = (a->num_tokens + lanes - 1) / lanes * lanes;
    int64_t square = a->num_tokens * prepared->tables.padded;
    if (!(biases + masks))
        return 0;
    prepared->memory = restore_aligned(sizeof(float) * (size_t)((biases + masks) * square + lanes * prepared->tables.padded));
    prepared->masking = calloc((size_t)masks + 1, 1);
    if (!prepared->memory || !prepared->masking)
        return 1;
    prepared->tables.bias = a->bias ? prepared->memory : NULL;
    prepared->tables.masks = a->masks ? prepared->memory + biases * square : NULL;
    prepared->tables.masking = prepared->masking;
    struct table_call call = {a, kernels, prepared};
    return restore_share(&a->threads, biases + masks, make_table, &call, 0);
}

void restore_forget(struct prepared *prepared)
{
    free(prepared->memory);
    free(prepared->masking);
}

int64_t restore_class_of(const struct attention *a, int64_t window)
{
    int64_t kind = 0;
    while (kind + 1 < a->num_classes && window >= a->counts[kind])
        window -= a->counts[kind++];
    return kind;
}

struct call {
    const struct attention *a;
    const struct kernels *kernels;
    struct prepared prepared;
    float *bias_gradients; /* (pieces, h, N, padded) */
    int64_t pieces;
};

/* All heads of a window, so that its rows are read once; the pieces are much more than the threads. */
static void forward_piece(void *context, int64_t piece, float *workspace)
{
    struct call *c = context;
    const struct attention *a = c->a;
    int64_t items = a->num_windows * a->num_heads;
    unsigned long before = c->kernels->enter();
    for (int64_t item = items * piece / c->pieces; item < items * (piece + 1) / c->pieces; item++) {
        int64_t window = item / a->num_heads;
        c->kernels->forward(a, &c->prepared.tables, window, item % a->num_heads, restore_class_of(a, window), workspace);
    }
    c->kernels->leave(before);
}

/* One slice sums the gradient of the bias in memory of its own: the same numbers in the same order every time. */
static void backward_piece(void *context, int64_t piece, float *workspace)
{
    struct call *c = context;
    const struct attention *a = c->a;
    int64_t items = a->num_windows * a->num_heads, size = a->num_heads * a->num_tokens * c->prepared.tables.padded;
    float *bias_gradient = c->bias_gradients ? c->bias_gradients + piece * size : NULL;
    unsigned long before = c->kernels->enter();
    for (int64_t item = items * piece / c->pieces; item < items * (piece + 1) / c->pieces; item++) {
        int64_t window = item / a->num_heads;
        c->kernels->backward(a, &c->prepared.tables, window, item % a->num_heads, restore_class_of(a, window), workspace,
                             bias_gradient);
    }
    c->kernels->leave(before);
}

static void sum_slices(void *context, int64_t head, float *workspace)
{
    (void)workspace;
    struct call *c = context;
    const struct attention *a = c->a;
    int64_t N = a->num_tokens, padded = c->prepared.tables.padded, size = a->num_heads * N * padded;
    for (int64_t k = 0; k < N; k++)
        for (int64_t q = 0; q < N; q++) {
            const float *at = c->bias_gradients + (head * N + k) * padded + q;
            float sum = at[0];
            for (int64_t slice = 1; slice < c->pieces; slice++)
                sum += at[slice * size];
            a->bias_gradient[(head * N + q) * N + k] = sum;
        }
}

static int run_backward(struct call *c)
{
    const struct attention *a = c->a;
    int64_t items = a->num_windows * a->num_heads, size = a->num_heads * a->num_tokens * c->prepared.tables.padded;
    c->pieces = restore_pieces(&a->threads, items);
    if (a->bias_gradient) {
        c->pieces = a->threads.num_threads < items ? a->threads.num_threads : items;
        c->bias_gradients = calloc((size_t)(c->pieces * size), sizeof(float));
        if (!c->bias_gradients)
            return 1;
    }
    int failed = restore_share(&a->threads, c->pieces, backward_piece, c, c->kernels->workspace(a));
    if (a->bias_gradient)
        failed |= restore_share(&a->threads, a->num_heads, sum_slices, c, 0);
    free(c->bias_gradients);
    return failed;
}

/* Forward, or backward where there is a gradient. Gives 0; 1 without memory; 2 on a processor without code for it. */
__attribute__((visibility("default"))) int restore_window_attention(const struct attention *a)
{
    struct call c = {.a = a, .kernels = restore_kernels_of(a)};
    if (!c.kernels)
        return 2;
    int failed = restore_prepare(a, c.kernels, &c.prepared);
    if (!failed && a->gradient)
        failed = run_backward(&c);
    else if (!failed) {
        c.pieces = restore_pieces(&a->threads, a->num_windows * a->num_heads);
        failed = restore_share(&a->threads, c.pieces, forward_piece, &c, c.kernels->workspace(a));
    }
    restore_forget(&c.prepared);
    return failed;
}
