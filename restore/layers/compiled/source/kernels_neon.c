/* The kernels for neon. */
#if defined(__aarch64__)
#include <stdint.h>
#include "simd_neon.h"
#include "attention.inc"
#include "branch.inc"
#include "convolution.inc"
#include "gate.inc"
#include "layer_norm.inc"
#include "kernels.h"

const struct kernels restore_kernels_neon = KERNELS;
#endif
