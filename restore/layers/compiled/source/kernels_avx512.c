/* The kernels for avx512. */
#if defined(__x86_64__)
#ifdef __clang__
#pragma clang attribute push(__attribute__((target("avx2,fma,avx512f,avx512bw,avx512dq,avx512vl"))), apply_to = function)
#else
#pragma GCC target("avx2,fma,avx512f,avx512bw,avx512dq,avx512vl")
#endif
#include <stdint.h>
#include "simd_avx512.h"
#include "attention.inc"
#include "branch.inc"
#include "convolution.inc"
#include "gate.inc"
#include "layer_norm.inc"
#include "kernels.h"

const struct kernels restore_kernels_avx512 = KERNELS;

#ifdef __clang__
#pragma clang attribute pop
#endif
#endif
