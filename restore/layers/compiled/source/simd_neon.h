/* Four float32 lanes: NEON of 64-bit Arm processors. See attention.inc for what each function must do. */
#include <arm_neon.h>

typedef float32x4_t vec;
#define LANES 4
#define MAX_QUERY_VECTORS 4
#define KEY_BLOCK 4
#define MAX_CHANNEL_BLOCK 6
#define SUM_BLOCK 8
#define PANEL 4
#define ROW_BLOCK 6

static inline __attribute__((always_inline)) vec exp2_polynomial(vec x); /* attention.inc */

static inline vec vec_load(const float *p) { return vld1q_f32(p); }
static inline void vec_store(float *p, vec x) { vst1q_f32(p, x); }

static inline vec vec_load_part(const float *p, int n)
{
    float part[4] = {0};
    for (int i = 0; i < n && i < 4; i++)
        part[i] = p[i];
    return vld1q_f32(part);
}

static inline void vec_store_part(float *p, vec x, int n)
{
    float part[4];
    vst1q_f32(part, x);
    for (int i = 0; i < n && i < 4; i++)
        p[i] = part[i];
}

static inline vec vec_all(float x) { return vdupq_n_f32(x); }
static inline vec vec_max(vec a, vec b) { return vmaxq_f32(a, b); }
static inline vec vec_add_product(vec sum, vec a, vec b) { return vfmaq_f32(sum, a, b); }

static inline float vec_sum(vec x) { return vaddvq_f32(x); }

static inline vec vec_load_bf16(const uint16_t *p, int n)
{
    uint16_t part[4] = {0};
    for (int i = 0; i < n && i < 4; i++)
        part[i] = p[i];
    return vreinterpretq_f32_u32(vshll_n_u16(vld1_u16(part), 16));
}

static inline void vec_store_bf16(uint16_t *p, vec x, int n)
{
    uint32x4_t bits = vreinterpretq_u32_f32(x);
    uint32x4_t odd = vandq_u32(vshrq_n_u32(bits, 16), vdupq_n_u32(1));
    uint32x4_t rounded = vshrq_n_u32(vaddq_u32(bits, vaddq_u32(odd, vdupq_n_u32(0x7fff))), 16);
    rounded = vbslq_u32(vceqq_f32(x, x), rounded, vdupq_n_u32(0x7fc0));
    uint16_t part[4];
    vst1_u16(part, vmovn_u32(rounded));
    for (int i = 0; i < n && i < 4; i++)
        p[i] = part[i];
}

static inline vec vec_exp2(vec x)
{
    x = vmaxq_f32(vdupq_n_f32(-127), x); /* what is not a number stays so */
    vec whole = vrndnq_f32(x);
    vec power = exp2_polynomial(vsubq_f32(x, whole));
    int32x4_t exponent = vshlq_n_s32(vaddq_s32(vcvtq_s32_f32(whole), vdupq_n_s32(127)), 23);
    return vmulq_f32(power, vreinterpretq_f32_s32(exponent)); /* the exponent of -127 is that of zero */
}

static inline void vec_transpose(vec rows[LANES])
{
    float32x4x2_t a = vtrnq_f32(rows[0], rows[1]), b = vtrnq_f32(rows[2], rows[3]);
    rows[0] = vcombine_f32(vget_low_f32(a.val[0]), vget_low_f32(b.val[0]));
    rows[1] = vcombine_f32(vget_low_f32(a.val[1]), vget_low_f32(b.val[1]));
    rows[2] = vcombine_f32(vget_high_f32(a.val[0]), vget_high_f32(b.val[0]));
    rows[3] = vcombine_f32(vget_high_f32(a.val[1]), vget_high_f32(b.val[1]));
}

static unsigned long enter(void)
{
    unsigned long before;
    __asm__ volatile("mrs %0, fpcr" : "=r"(before));
    __asm__ volatile("msr fpcr, %0" : : "r"(before | 1ul << 24));
    return before;
}

static void leave(unsigned long before) { __asm__ volatile("msr fpcr, %0" : : "r"(before)); }
