/* Loops over pixels that no library has as one pass: rows of PNG files without their filters, SSIM, resizing of one
   axis by short sums, and the samples of NIQE.

   One thread each; plain C, with code for AVX2 and AVX-512 beside the portable one, chosen by `level`. Called through
   ctypes by restore/images/compiled.py, which says what the arguments are. */

#include <stdint.h>
#include <string.h>

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

#define EXPORT __attribute__((visibility("default")))
#define INLINE static inline __attribute__((always_inline))

enum { PORTABLE, AVX2, AVX512 };

EXPORT int32_t restore_pixels_level(void)
{
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"))
        return AVX512;
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        return AVX2;
#endif
    return PORTABLE;
}

/* ---- PNG filters (PNG specification, section 9) ---- */

enum { NONE, SUB, UP, AVERAGE, PAETH };

INLINE int nearest_of(int left, int above, int corner)
{
    int by_left = above - corner, by_above = left - corner, by_corner = by_left + by_above;
    by_left = by_left < 0 ? -by_left : by_left;
    by_above = by_above < 0 ? -by_above : by_above;
    by_corner = by_corner < 0 ? -by_corner : by_corner;
    if (by_left <= by_above && by_left <= by_corner)
        return left;
    return by_above <= by_corner ? above : corner;
}

#if defined(__SSE2__)

/* A pixel of 3 or 4 bytes in the low halves of 16-bit lanes; four bytes are read, so `pixels` has one more behind it. */
INLINE __m128i load_pixel(const uint8_t *pixel)
{
    int32_t bytes;
    memcpy(&bytes, pixel, 4);
    return _mm_unpacklo_epi8(_mm_cvtsi32_si128(bytes), _mm_setzero_si128());
}

INLINE void store_pixel(uint8_t *pixel, __m128i lanes, int step)
{
    int32_t bytes = _mm_cvtsi128_si32(_mm_packus_epi16(lanes, lanes));
    memcpy(pixel, &bytes, step);
}

INLINE __m128i size_of(__m128i x) { return _mm_max_epi16(x, _mm_sub_epi16(_mm_setzero_si128(), x)); }

INLINE __m128i choose(__m128i mask, __m128i yes, __m128i no)
{
    return _mm_or_si128(_mm_and_si128(mask, yes), _mm_andnot_si128(mask, no));
}

/* All pixels of a row but the last, whose neighbour in memory may not be ours. */
INLINE int64_t unfilter_pixels(int filter, const uint8_t *row, const uint8_t *above, uint8_t *out, int64_t size, int step)
{
    __m128i left = _mm_setzero_si128(), corner = left, up = left;
    const __m128i low = _mm_set1_epi16(255);
    int64_t i = 0;
    for (; i + step + 1 <= size; i += step) {
        __m128i guess = left;
        if (filter != SUB)
            up = load_pixel(above + i);
        if (filter == AVERAGE)
            guess = _mm_srli_epi16(_mm_add_epi16(left, up), 1);
        if (filter == PAETH) {
            __m128i by_left = _mm_sub_epi16(up, corner), by_up = _mm_sub_epi16(left, corner);
            __m128i by_corner = size_of(_mm_add_epi16(by_left, by_up));
            by_left = size_of(by_left);
            by_up = size_of(by_up);
            __m128i least = _mm_min_epi16(by_corner, _mm_min_epi16(by_left, by_up));
            guess = choose(_mm_cmpeq_epi16(least, by_left), left, choose(_mm_cmpeq_epi16(least, by_up), up, corner));
            corner = up;
        }
        left = _mm_and_si128(_mm_add_epi16(load_pixel(row + i), guess), low);
        store_pixel(out + i, left, step);
    }
    return i;
}

INLINE int64_t unfilter_fast(int filter, const uint8_t *row, const uint8_t *above, uint8_t *out, int64_t size, int step)
{
    if (!above && filter != SUB)
        return 0;
    if (filter == SUB)
        return unfilter_pixels(SUB, row, above, out, size, step);
    if (filter == AVERAGE)
        return unfilter_pixels(AVERAGE, row, above, out, size, step);
    return unfilter_pixels(PAETH, row, above, out, size, step);
}

#endif

static int64_t unfilter_start(int filter, const uint8_t *row, const uint8_t *above, uint8_t *out, int64_t size, int step)
{
#if defined(__SSE2__)
    if (step == 3)
        return unfilter_fast(filter, row, above, out, size, 3);
    if (step == 4)
        return unfilter_fast(filter, row, above, out, size, 4);
#endif
    return 0;
}

/* The pixels of rows that are each a filter's number and `size` bytes; 1 if there is no such filter. */
EXPORT int32_t restore_unfilter(const uint8_t *rows, uint8_t *out, int64_t num_rows, int64_t size, int64_t step)
{
    for (int64_t r = 0; r < num_rows; r++, rows += size + 1, out += size) {
        const uint8_t *row = rows + 1, *above = r ? out - size : 0;
        int filter = rows[0];
        if (filter == NONE || (filter == UP && !above))
            memcpy(out, row, size);
        else if (filter == UP)
            for (int64_t i = 0; i < size; i++)
                out[i] = (uint8_t)(row[i] + above[i]);
        else if (filter <= PAETH) {
            int64_t done = unfilter_start(filter, row, above, out, size, (int)step);
            for (int64_t i = done; i < size; i++) {
                int left = i < step ? 0 : out[i - step], up = above ? above[i] : 0;
                int corner = i < step || !above ? 0 : above[i - step];
                int guess = filter == SUB ? left : filter == AVERAGE ? (left + up) >> 1 : nearest_of(left, up, corner);
                out[i] = (uint8_t)(row[i] + guess);
            }
        } else
            return 1;
    }
    return 0;
}

/* ---- SSIM (Wang et al. 2004), the sum over all windows of one channel ---- */

enum { WINDOW = 11, HALF = 5, TILE = 64, WIDE = TILE + WINDOW - 1, MOMENTS = 4 };

struct channel { /* the same fields in restore/images/compiled.py */
    const void *x, *y;
    int64_t height, width, row_stride, pixel_stride; /* strides in numbers */
    const double *taps;
    double white; /* its value in x and y */
    int32_t is_double, level;
};

INLINE void load_row(const struct channel *c, const void *plane, int64_t row, int64_t column, int count, double *out)
{
    int64_t start = row * c->row_stride + column * c->pixel_stride, step = c->pixel_stride;
    if (c->is_double) {
        const double *from = (const double *)plane + start;
        for (int j = 0; j < count; j++)
            out[j] = from[j * step];
    } else {
        const uint8_t *from = (const uint8_t *)plane + start;
        for (int j = 0; j < count; j++)
            out[j] = from[j * step];
    }
}

INLINE double ssim_sum(const struct channel *c)
{
    double ring[WINDOW][MOMENTS][WIDE], down[MOMENTS][WIDE], sums[TILE];
    const double *t = c->taps, c1 = 0.0001 * c->white * c->white, c2 = 0.0009 * c->white * c->white;
    double total = 0;
    memset(ring, 0, sizeof ring);
    memset(down, 0, sizeof down);
    for (int64_t left = 0; left < c->width - WINDOW + 1; left += TILE) {
        int64_t there = c->width - left;
        int count = there < WIDE ? (int)there : WIDE;
        memset(sums, 0, sizeof sums);
        for (int64_t row = 0; row < c->height; row++) {
            double (*m)[WIDE] = ring[row % WINDOW];
            load_row(c, c->x, row, left, count, m[0]);
            load_row(c, c->y, row, left, count, m[1]);
            for (int j = 0; j < WIDE; j++) {
                double x = m[0][j], y = m[1][j];
                m[2][j] = x * x + y * y;
                m[3][j] = x * y;
            }
            if (row < WINDOW - 1)
                continue;
            for (int k = 0; k < MOMENTS; k++) {
                const double *r[WINDOW];
                for (int i = 0; i < WINDOW; i++)
                    r[i] = ring[(row + 1 + i) % WINDOW][k];
                for (int j = 0; j < WIDE; j++)
                    down[k][j] = t[5] * r[5][j] + t[4] * (r[4][j] + r[6][j]) + t[3] * (r[3][j] + r[7][j])
                        + t[2] * (r[2][j] + r[8][j]) + t[1] * (r[1][j] + r[9][j]) + t[0] * (r[0][j] + r[10][j]);
            }
            for (int j = 0; j < TILE; j++) {
                double v[MOMENTS];
                for (int k = 0; k < MOMENTS; k++) {
                    const double *d = down[k] + j;
                    v[k] = t[5] * d[5] + t[4] * (d[4] + d[6]) + t[3] * (d[3] + d[7]) + t[2] * (d[2] + d[8])
                        + t[1] * (d[1] + d[9]) + t[0] * (d[0] + d[10]);
                }
                double squares = v[0] * v[0] + v[1] * v[1], product = v[0] * v[1];
                sums[j] += (2 * product + c1) * (2 * (v[3] - product) + c2)
                    / ((squares + c1) * (v[2] - squares + c2));
            }
        }
        for (int j = 0; j < count - WINDOW + 1; j++)
            total += sums[j];
    }
    return total;
}

static double ssim_portable(const struct channel *c) { return ssim_sum(c); }
#if defined(__x86_64__)
__attribute__((target("avx2,fma"))) static double ssim_avx2(const struct channel *c) { return ssim_sum(c); }
__attribute__((target("avx512f,avx512dq,avx512vl,fma,prefer-vector-width=512"))) static double
ssim_avx512(const struct channel *c) { return ssim_sum(c); }
#endif

EXPORT double restore_ssim(const struct channel *c)
{
#if defined(__x86_64__)
    if (c->level >= AVX512)
        return ssim_avx512(c);
    if (c->level == AVX2)
        return ssim_avx2(c);
#endif
    return ssim_portable(c);
}

/* ---- resizing along one axis: each line of the result is a weighted sum of `num_taps` lines that follow each other ---- */

struct axis { /* the same fields in restore/images/compiled.py */
    const void *in;
    void *out;
    int64_t num_planes, height, width, target; /* of the input; lines of the result along the axis */
    const int32_t *first;                      /* (target,) the first line of each sum */
    const void *weights;                       /* (target, num_taps), of the type of the numbers */
    int32_t num_taps, is_vertical, is_double, level;
};

#define RESIZE(type)                                                                                                 \
    INLINE void resize_down_##type(const struct axis *a)                                                             \
    {                                                                                                                \
        for (int64_t p = 0; p < a->num_planes; p++)                                                                  \
            for (int64_t r = 0; r < a->target; r++) {                                                                \
                const type *in = (const type *)a->in + (p * a->height + a->first[r]) * a->width;                     \
                const type *w = (const type *)a->weights + r * a->num_taps;                                          \
                type *restrict out = (type *)a->out + (p * a->target + r) * a->width;                                \
                int64_t c = 0;                                                                                       \
                for (; c + 64 <= a->width; c += 64) {                                                                \
                    type sum[64] = {0};                                                                              \
                    for (int k = 0; k < a->num_taps; k++)                                                            \
                        for (int j = 0; j < 64; j++)                                                                 \
                            sum[j] += w[k] * in[k * a->width + c + j];                                               \
                    memcpy(out + c, sum, sizeof sum);                                                                \
                }                                                                                                    \
                for (; c < a->width; c++) {                                                                          \
                    type sum = 0;                                                                                    \
                    for (int k = 0; k < a->num_taps; k++)                                                            \
                        sum += w[k] * in[k * a->width + c];                                                          \
                    out[c] = sum;                                                                                    \
                }                                                                                                    \
            }                                                                                                        \
    }                                                                                                                \
    INLINE void resize_across_##type(const struct axis *a, int num_taps)                                             \
    {                                                                                                                \
        for (int64_t r = 0; r < a->num_planes * a->height; r++) {                                                    \
            const type *in = (const type *)a->in + r * a->width, *w = a->weights;                                    \
            type *restrict out = (type *)a->out + r * a->target;                                                     \
            for (int64_t c = 0; c < a->target; c++, w += num_taps) {                                                 \
                const type *from = in + a->first[c];                                                                 \
                type sum = 0;                                                                                        \
                for (int k = 0; k < num_taps; k++)                                                                   \
                    sum += w[k] * from[k];                                                                           \
                out[c] = sum;                                                                                        \
            }                                                                                                        \
        }                                                                                                            \
    }                                                                                                                \
    INLINE void resize_##type(const struct axis *a)                                                                  \
    {                                                                                                                \
        switch (a->is_vertical ? 0 : a->num_taps) {                                                                  \
        case 0: resize_down_##type(a); break;                                                                        \
        case 2: resize_across_##type(a, 2); break;                                                                   \
        case 3: resize_across_##type(a, 3); break;                                                                   \
        case 4: resize_across_##type(a, 4); break;                                                                   \
        case 5: resize_across_##type(a, 5); break;                                                                   \
        case 6: resize_across_##type(a, 6); break;                                                                   \
        default: resize_across_##type(a, a->num_taps);                                                               \
        }                                                                                                            \
    }

RESIZE(float)
RESIZE(double)

INLINE void resize_axis(const struct axis *a)
{
    if (a->is_double)
        resize_double(a);
    else
        resize_float(a);
}

static void resize_portable(const struct axis *a) { resize_axis(a); }
#if defined(__x86_64__)
__attribute__((target("avx2,fma"))) static void resize_avx2(const struct axis *a) { resize_axis(a); }
__attribute__((target("avx512f,avx512dq,avx512vl,fma"))) static void resize_avx512(const struct axis *a)
{
    resize_axis(a);
}
#endif

EXPORT void restore_resize(const struct axis *a)
{
#if defined(__x86_64__)
    if (a->level >= AVX512) {
        resize_avx512(a);
        return;
    }
    if (a->level == AVX2) {
        resize_avx2(a);
        return;
    }
#endif
    resize_portable(a);
}

/* ---- NIQE (Mittal et al. 2013): locally normalised luma, and sums over its values and products in blocks ---- */

enum { AROUND = 3, LANES = 16, LARGEST_BLOCK = 96, STREAMS = 5, KEPT = 5 };

struct blocks { /* the same fields in restore/images/compiled.py */
    const double *levels;         /* (height, width) */
    double *sums, *space;         /* (blocks, STREAMS, KEPT); (block, width) and 2 x (width + 2 AROUND) */
    int64_t height, width, block; /* sides are whole blocks, of a multiple of LANES up to LARGEST_BLOCK */
    const double *taps;           /* (7,), symmetric */
    double least;                 /* smaller differences from the mean are none */
    int32_t level;
};

/* A row less its local mean, by its local deviation plus one; rows and columns beyond the border repeat it. */
INLINE void normalise_row(const struct blocks *b, int64_t row, double *restrict out)
{
    const double *t = b->taps, *r[2 * AROUND + 1];
    int64_t width = b->width;
    double *mean = b->space + b->block * width, *square = mean + width + 2 * AROUND;
    for (int i = 0; i < 2 * AROUND + 1; i++) {
        int64_t from = row + i - AROUND;
        from = from < 0 ? 0 : from >= b->height ? b->height - 1 : from;
        r[i] = b->levels + from * width;
    }
    double *restrict m = mean + AROUND, *restrict s = square + AROUND;
    for (int64_t j = 0; j < width; j++) {
        m[j] = t[3] * r[3][j] + t[2] * (r[2][j] + r[4][j]) + t[1] * (r[1][j] + r[5][j]) + t[0] * (r[0][j] + r[6][j]);
        s[j] = t[3] * (r[3][j] * r[3][j]) + t[2] * (r[2][j] * r[2][j] + r[4][j] * r[4][j])
            + t[1] * (r[1][j] * r[1][j] + r[5][j] * r[5][j]) + t[0] * (r[0][j] * r[0][j] + r[6][j] * r[6][j]);
    }
    for (int i = 1; i <= AROUND; i++) {
        m[-i] = m[0], m[width - 1 + i] = m[width - 1];
        s[-i] = s[0], s[width - 1 + i] = s[width - 1];
    }
    for (int64_t j = 0; j < width; j++) {
        const double *d = mean + j, *e = square + j;
        double local = t[3] * d[3] + t[2] * (d[2] + d[4]) + t[1] * (d[1] + d[5]) + t[0] * (d[0] + d[6]);
        double power = t[3] * e[3] + t[2] * (e[2] + e[4]) + t[1] * (e[1] + e[5]) + t[0] * (e[0] + e[6]);
        double difference = r[3][j] - local;
        difference = __builtin_fabs(difference) > b->least ? difference : 0;
        out[j] = difference / (__builtin_sqrt(__builtin_fabs(power - local * local)) + 1);
    }
}

/* Of x * y: squares of negative and of positive numbers, magnitudes, and how many there are of each. */
INLINE void add_products(const double *x, const double *y, int64_t count, double (*restrict kept)[LANES])
{
    for (int64_t j = 0; j < count; j += LANES)
        for (int k = 0; k < LANES; k++) {
            double product = x[j + k] * y[j + k], square = product * product;
            kept[0][k] += product < 0 ? square : 0;
            kept[1][k] += product > 0 ? square : 0;
            kept[2][k] += __builtin_fabs(product);
            kept[3][k] += product < 0 ? 1 : 0;
            kept[4][k] += product > 0 ? 1 : 0;
        }
}

/* The products are with the pixel to the left, above, above to the left and above to the right; the borders of a block
   are joined. */
INLINE void sum_block(const struct blocks *b, int64_t column, double *sums)
{
    double kept[STREAMS][KEPT][LANES], rows[2][LARGEST_BLOCK + 2], ones[LARGEST_BLOCK];
    int64_t size = b->block;
    memset(kept, 0, sizeof kept);
    for (int64_t j = 0; j < size; j++)
        ones[j] = 1;
    for (int64_t i = -1; i < size; i++) {
        double *now = rows[(i + 2) % 2] + 1, *above = rows[(i + 1) % 2] + 1;
        memcpy(now, b->space + (i < 0 ? size - 1 : i) * b->width + column, size * sizeof *now);
        now[-1] = now[size - 1], now[size] = now[0];
        if (i < 0)
            continue;
        add_products(now, ones, size, kept[0]);
        add_products(now, now - 1, size, kept[1]);
        add_products(now, above, size, kept[2]);
        add_products(now, above - 1, size, kept[3]);
        add_products(now, above + 1, size, kept[4]);
    }
    for (int s = 0; s < STREAMS; s++)
        for (int q = 0; q < KEPT; q++) {
            double total = 0;
            for (int k = 0; k < LANES; k++)
                total += kept[s][q][k];
            sums[s * KEPT + q] = total;
        }
}

INLINE void sum_blocks(const struct blocks *b)
{
    double *sums = b->sums;
    for (int64_t row = 0; row < b->height; row += b->block) {
        for (int64_t i = 0; i < b->block; i++)
            normalise_row(b, row + i, b->space + i * b->width);
        for (int64_t column = 0; column < b->width; column += b->block, sums += STREAMS * KEPT)
            sum_block(b, column, sums);
    }
}

static void blocks_portable(const struct blocks *b) { sum_blocks(b); }
#if defined(__x86_64__)
__attribute__((target("avx2,fma"))) static void blocks_avx2(const struct blocks *b) { sum_blocks(b); }
__attribute__((target("avx512f,avx512dq,avx512vl,fma,prefer-vector-width=512"))) static void
blocks_avx512(const struct blocks *b) { sum_blocks(b); }
#endif

EXPORT void restore_blocks(const struct blocks *b)
{
#if defined(__x86_64__)
    if (b->level >= AVX512) {
        blocks_avx512(b);
        return;
    }
    if (b->level == AVX2) {
        blocks_avx2(b);
        return;
    }
#endif
    blocks_portable(b);
}
