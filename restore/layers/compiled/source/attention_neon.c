/* The kernels for neon. */
#if defined(__aarch64__)
#include <stdint.h>
#include "simd_neon.h"
#include "attention.inc"

const struct kernels restore_kernels_neon = {LANES, workspace, table, forward, backward};
#endif
