/* The kernels for AVX-512 with matrix tiles of bfloat16. */
#include "tiles.h"
#ifdef HAS_TILES
#define TILES
#ifdef __clang__
#pragma clang attribute push(__attribute__((target("avx2,fma,avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,amx-tile,amx-bf16"))), apply_to = function)
#else
#pragma GCC target("avx2,fma,avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,amx-tile,amx-bf16")
#endif
#include <stdint.h>
#include "simd_avx512.h"
#include "attention.inc"
#include "branch.inc"
#include "kernels.h"

const struct kernels restore_kernels_amx = KERNELS;

#ifdef __clang__
#pragma clang attribute pop
#endif
#endif
