/* The kernels for AVX-512 with products of bfloat16 pairs. */
#include "tiles.h"
#ifdef HAS_PAIRS
#define PAIRS
#ifdef __clang__
#pragma clang attribute push(__attribute__((target("avx2,fma,avx512f,avx512bw,avx512dq,avx512vl,avx512bf16"))), apply_to = function)
#else
#pragma GCC target("avx2,fma,avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")
#endif
#include <stdint.h>
#include "simd_avx512.h"
#include "attention.inc"
#include "branch.inc"
#include "kernels.h"

const struct kernels restore_kernels_avx512_bf16 = KERNELS;

#ifdef __clang__
#pragma clang attribute pop
#endif
#endif
