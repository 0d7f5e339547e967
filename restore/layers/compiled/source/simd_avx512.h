/* Sixteen float32 lanes: AVX-512 (F, BW, DQ, VL). See attention.inc for what each function must do. */
#include <immintrin.h>

typedef __m512 vec;
#define LANES 16
#define MAX_QUERY_VECTORS 4
#define KEY_BLOCK 4
#define MAX_CHANNEL_BLOCK 6
#define SUM_BLOCK 8
#define PANEL 4
#define ROW_BLOCK 6

static inline __attribute__((always_inline)) vec exp2_polynomial(vec x); /* attention.inc */

static inline __mmask16 first(int n) { return (__mmask16)_cvtu32_mask16(n >= LANES ? 0xffffu : (1u << n) - 1); }

static inline vec vec_load(const float *p) { return _mm512_loadu_ps(p); }
static inline void vec_store(float *p, vec x) { _mm512_storeu_ps(p, x); }
static inline vec vec_load_part(const float *p, int n) { return _mm512_maskz_loadu_ps(first(n), p); }
static inline void vec_store_part(float *p, vec x, int n) { _mm512_mask_storeu_ps(p, first(n), x); }
static inline vec vec_all(float x) { return _mm512_set1_ps(x); }
static inline vec vec_max(vec a, vec b) { return _mm512_max_ps(a, b); }
static inline vec vec_add_product(vec sum, vec a, vec b) { return _mm512_fmadd_ps(a, b, sum); }

static inline float vec_sum(vec x) { return _mm512_reduce_add_ps(x); }

static inline vec vec_load_bf16(const uint16_t *p, int n)
{
    __m256i half = _mm256_maskz_loadu_epi16(first(n), p);
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16));
}

static inline void vec_store_bf16(uint16_t *p, vec x, int n)
{
    __m512i bits = _mm512_castps_si512(x);
    __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    __m512i rounded = _mm512_srli_epi32(_mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff))), 16);
    __mmask16 unordered = _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q);
    rounded = _mm512_mask_mov_epi32(rounded, unordered, _mm512_set1_epi32(0x7fc0));
    _mm256_mask_storeu_epi16(p, first(n), _mm512_cvtepi32_epi16(rounded));
}

static inline vec vec_exp2(vec x)
{
    x = _mm512_max_ps(_mm512_set1_ps(-150), x); /* the second operand is given where one is not a number */
    vec whole = _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT);
    vec power = exp2_polynomial(_mm512_sub_ps(x, whole));
    return _mm512_scalef_ps(power, whole);
}

static inline void vec_transpose(vec rows[LANES])
{
    vec a[16];
    for (int i = 0; i < 16; i += 2) {
        a[i] = _mm512_unpacklo_ps(rows[i], rows[i + 1]);
        a[i + 1] = _mm512_unpackhi_ps(rows[i], rows[i + 1]);
    }
    for (int i = 0; i < 16; i += 4)
        for (int j = 0; j < 2; j++) {
            __m512d low = _mm512_castps_pd(a[i + j]), high = _mm512_castps_pd(a[i + j + 2]);
            rows[i + 2 * j] = _mm512_castpd_ps(_mm512_unpacklo_pd(low, high));
            rows[i + 2 * j + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(low, high));
        }
    for (int i = 0; i < 4; i++) {
        a[i] = _mm512_shuffle_f32x4(rows[i], rows[i + 4], 0x88);
        a[i + 4] = _mm512_shuffle_f32x4(rows[i], rows[i + 4], 0xdd);
        a[i + 8] = _mm512_shuffle_f32x4(rows[i + 8], rows[i + 12], 0x88);
        a[i + 12] = _mm512_shuffle_f32x4(rows[i + 8], rows[i + 12], 0xdd);
    }
    for (int i = 0; i < 8; i++) {
        rows[i] = _mm512_shuffle_f32x4(a[i], a[i + 8], 0x88);
        rows[i + 8] = _mm512_shuffle_f32x4(a[i], a[i + 8], 0xdd);
    }
}

#if defined(PAIRS) || defined(TILES)
/* 32 numbers of bfloat16, rounded: `low` first. */
static inline vec pack_bf16(vec low, vec high) { return (vec)_mm512_cvtne2ps_pbh(high, low); }

/* The numbers of `low` and `high` in turns: (low[0], high[0]), (low[1], high[1]) ... */
static inline vec pair_bf16(vec low, vec high)
{
    const __m512i turns = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6, 21,
                                           5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
    return (vec)_mm512_permutexvar_epi16(turns, (__m512i)pack_bf16(low, high));
}

static inline vec vec_add_pairs(vec sum, vec a, vec b) { return _mm512_dpbf16_ps(sum, (__m512bh)a, (__m512bh)b); }
#endif

static unsigned long enter(void)
{
    unsigned before = _mm_getcsr();
    _mm_setcsr(before | 0x8040);
    return before;
}

static void leave(unsigned long before) { _mm_setcsr((unsigned)before); }
