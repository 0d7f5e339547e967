/* The kernels for avx2. */
#if defined(__x86_64__)
#ifdef __clang__
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#else
#pragma GCC target("avx2,fma")
#endif
#include <stdint.h>
#include "simd_avx2.h"
#include "attention.inc"
#include "branch.inc"
#include "convolution.inc"
#include "gate.inc"
#include "layer_norm.inc"
#include "kernels.h"

const struct kernels restore_kernels_avx2 = KERNELS;

#ifdef __clang__
#pragma clang attribute pop
#endif
#endif
