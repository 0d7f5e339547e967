/* Eight float32 lanes: AVX2 and FMA. See attention.inc for what each function must do. */
#include <immintrin.h>

typedef __m256 vec;
#define LANES 8
#define MAX_QUERY_VECTORS 2
#define KEY_BLOCK 4
#define MAX_CHANNEL_BLOCK 5
#define SUM_BLOCK 8
#define PANEL 2
#define ROW_BLOCK 5

static inline __attribute__((always_inline)) vec exp2_polynomial(vec x); /* attention.inc */

static inline __m256i first(int n)
{
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

static inline vec vec_load(const float *p) { return _mm256_loadu_ps(p); }
static inline void vec_store(float *p, vec x) { _mm256_storeu_ps(p, x); }
static inline vec vec_load_part(const float *p, int n) { return _mm256_maskload_ps(p, first(n)); }
static inline void vec_store_part(float *p, vec x, int n) { _mm256_maskstore_ps(p, first(n), x); }
static inline vec vec_all(float x) { return _mm256_set1_ps(x); }
static inline vec vec_max(vec a, vec b) { return _mm256_max_ps(a, b); }
static inline vec vec_add_product(vec sum, vec a, vec b) { return _mm256_fmadd_ps(a, b, sum); }

static inline float vec_sum(vec x)
{
    __m128 half = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    half = _mm_add_ps(half, _mm_movehl_ps(half, half));
    return _mm_cvtss_f32(_mm_add_ss(half, _mm_movehdup_ps(half)));
}

static inline vec vec_load_bf16(const uint16_t *p, int n)
{
    uint16_t part[8] = {0};
    if (n < 8) {
        for (int i = 0; i < n; i++)
            part[i] = p[i];
        p = part;
    }
    __m128i half = _mm_loadu_si128((const __m128i *)p);
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(half), 16));
}

static inline void vec_store_bf16(uint16_t *p, vec x, int n)
{
    __m256i bits = _mm256_castps_si256(x);
    __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
    __m256i rounded = _mm256_srli_epi32(_mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff))), 16);
    __m256i unordered = _mm256_castps_si256(_mm256_cmp_ps(x, x, _CMP_UNORD_Q));
    rounded = _mm256_blendv_epi8(rounded, _mm256_set1_epi32(0x7fc0), unordered);
    __m128i half = _mm_packus_epi32(_mm256_castsi256_si128(rounded), _mm256_extracti128_si256(rounded, 1));
    uint16_t part[8];
    _mm_storeu_si128((__m128i *)(n < 8 ? part : p), half);
    if (n < 8)
        for (int i = 0; i < n; i++)
            p[i] = part[i];
}

static inline vec vec_exp2(vec x)
{
    x = _mm256_max_ps(_mm256_set1_ps(-127), x); /* the second operand is given where one is not a number */
    vec whole = _mm256_round_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    vec power = exp2_polynomial(_mm256_sub_ps(x, whole));
    __m256i exponent = _mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(whole), _mm256_set1_epi32(127)), 23);
    return _mm256_mul_ps(power, _mm256_castsi256_ps(exponent)); /* the exponent of -127 is that of zero */
}

static inline void vec_transpose(vec rows[LANES])
{
    vec a[8];
    for (int i = 0; i < 8; i += 2) {
        a[i] = _mm256_unpacklo_ps(rows[i], rows[i + 1]);
        a[i + 1] = _mm256_unpackhi_ps(rows[i], rows[i + 1]);
    }
    for (int i = 0; i < 8; i += 4)
        for (int j = 0; j < 2; j++) {
            rows[i + 2 * j] = _mm256_shuffle_ps(a[i + j], a[i + j + 2], 0x44);
            rows[i + 2 * j + 1] = _mm256_shuffle_ps(a[i + j], a[i + j + 2], 0xee);
        }
    for (int i = 0; i < 4; i++) {
        vec low = rows[i], high = rows[i + 4];
        rows[i] = _mm256_permute2f128_ps(low, high, 0x20);
        rows[i + 4] = _mm256_permute2f128_ps(low, high, 0x31);
    }
}

static unsigned long enter(void)
{
    unsigned before = _mm_getcsr();
    _mm_setcsr(before | 0x8040);
    return before;
}

static void leave(unsigned long before) { _mm_setcsr((unsigned)before); }
