/* What convolution.c (threads, memory) and the code for each kind of processor (convolution.inc) share. */
#ifndef RESTORE_CONVOLUTION_H
#define RESTORE_CONVOLUTION_H

#include "attention.h"

#define POSITIONS 16 /* of a tile of 4 x 4 */

/* A convolution of 3 x 3 with zeros around the image, by Winograd's F(2 x 2, 3 x 3): Lavin and Gray, "Fast Algorithms
 * for Convolutional Neural Networks" (CVPR 2016), section 4.1. An output takes 4 products in place of 9.
 *
 * Images are (B, H, W, channels). Read by restore/layers/compiled/library.py. */
struct convolution {
    int64_t num_images, height, width, inputs, outputs;
    const float *x;
    float *out;
    const float *weight; /* (POSITIONS, outputs, inputs), G g G^T: read by restore_pack_convolution */
    const float *bias;   /* (outputs), or NULL */
    float *packed;       /* restore_packed_convolution floats */
    struct threads threads;
    int32_t processor, unused;
};

struct tiles_of_2x2 {
    int64_t rows, columns; /* of an image */
    int64_t all;           /* of all images */
    int64_t at_once;       /* in a workspace */
};

#endif
