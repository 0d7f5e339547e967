/* Compares the compiled library with loops in double, without Python: for processors that are only emulated here.
 *
 *     bash scripts/check_kernels.sh
 *
 * Its argument is a processor's number in attention.c (1 NEON, 2 AVX2, 3 AVX-512, 4 AMX); by default the best that there
 * is. Prints the largest difference of each kind of case, as a share of the largest number; exit code 1 where one is too
 * large. */
#include "../restore/layers/compiled/source/branch.h"
#include "../restore/layers/compiled/source/convolution.h"
#include "../restore/layers/compiled/source/layer_norm.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int restore_processor(void);
int restore_window_attention(const struct attention *a);
int restore_branch(const struct branch *b);
int restore_layer_norm(const struct layer_norm *b);
int64_t restore_packed_convolution(const struct convolution *c);
int restore_pack_convolution(const struct convolution *c), restore_convolution(const struct convolution *c);

static uint64_t state = 88172645463325252ull;
static int processor, failures;

static double uniform(void) /* -1 to 1 */
{
    state ^= state << 13, state ^= state >> 7, state ^= state << 17;
    return (double)(state >> 11) / (double)(1ull << 53) * 2 - 1;
}

static void *room(int64_t bytes)
{
    void *memory = calloc((size_t)bytes + 64, 1);
    if (!memory)
        exit(2);
    return memory;
}

static uint16_t rounded(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, 4);
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

static float number(const void *from, int type, int64_t i)
{
    if (type == FLOAT32)
        return ((const float *)from)[i];
    uint32_t bits = (uint32_t)((const uint16_t *)from)[i] << 16;
    float x;
    memcpy(&x, &bits, 4);
    return x;
}

static void *numbers(int64_t n, int type, double size)
{
    void *to = room(n * 4);
    for (int64_t i = 0; i < n; i++) {
        float x = (float)(size * uniform());
        if (type == FLOAT32)
            ((float *)to)[i] = x;
        else
            ((uint16_t *)to)[i] = rounded(x);
    }
    return to;
}

/* The largest difference in units of the largest number. */
static double difference(const void *found, int type, const double *expected, int64_t n)
{
    double most = 1e-30, worst = 0;
    for (int64_t i = 0; i < n; i++) {
        double error = fabs((double)number(found, type, i) - expected[i]);
        most = fmax(most, fabs(expected[i]));
        worst = error == error ? fmax(worst, error) : INFINITY;
    }
    return worst / most;
}

static void judge(const char *what, int type, double found, double limit)
{
    int bad = !(found <= limit);
    failures += bad;
    printf("%-28s %-9s %.2e%s\n", what, type == FLOAT32 ? "float32" : "bfloat16", found, bad ? "  TOO LARGE" : "");
}

/* Weights (N, N) of one head of one window, and rows of q, k, v by index. */
static void weights_of(const struct attention *a, const double *qkv, int64_t window, int64_t kind, int64_t head,
                       double *weights)
{
    int64_t N = a->num_tokens, d = a->head_dim, h = a->num_heads;
    for (int64_t q = 0; q < N; q++) {
        const double *query = qkv + (window * N + q) * 3 * h * d + head * d;
        double most = -INFINITY, sum = 0;
        for (int64_t k = 0; k < N; k++) {
            const double *key = qkv + (window * N + k) * 3 * h * d + h * d + head * d;
            double score = 0;
            for (int64_t c = 0; c < d; c++)
                score += query[c] * key[c];
            score *= a->scale;
            score += a->bias ? a->bias[(head * N + q) * N + k] : 0;
            score += a->masks ? a->masks[(kind * N + q) * N + k] : 0;
            weights[q * N + k] = score;
            most = fmax(most, score);
        }
        for (int64_t k = 0; k < N; k++)
            sum += weights[q * N + k] = exp(weights[q * N + k] - most);
        for (int64_t k = 0; k < N; k++)
            weights[q * N + k] /= sum;
    }
}

/* Outputs (tokens, h, d) by window and token; gradients too, where they are asked for. */
static void attend(const struct attention *a, const double *qkv, const double *gradient, double *out,
                   double *qkv_gradient, double *bias_gradient)
{
    int64_t N = a->num_tokens, d = a->head_dim, h = a->num_heads, window = 0;
    double *weights = room(N * N * 8), *slopes = room(N * 8);
    for (int64_t kind = 0; kind < a->num_classes; kind++)
        for (int64_t end = window + a->counts[kind]; window < end; window++)
            for (int64_t head = 0; head < h; head++) {
                weights_of(a, qkv, window, kind, head, weights);
#define PART(array, which, t) ((array) + ((window * N + (t)) * 3 + (which)) * h * d + head * d)
#define ROW(array, t) ((array) + (window * N + (t)) * h * d + head * d)
                for (int64_t q = 0; q < N; q++) {
                    double along = 0;
                    for (int64_t k = 0; k < N; k++) {
                        double slope = 0;
                        for (int64_t c = 0; c < d; c++) {
                            ROW(out, q)[c] += weights[q * N + k] * PART(qkv, 2, k)[c];
                            if (gradient) {
                                slope += ROW(gradient, q)[c] * PART(qkv, 2, k)[c];
                                PART(qkv_gradient, 2, k)[c] += weights[q * N + k] * ROW(gradient, q)[c];
                            }
                        }
                        slopes[k] = slope;
                        along += slope * weights[q * N + k];
                    }
                    for (int64_t k = 0; gradient && k < N; k++) {
                        double of_score = weights[q * N + k] * (slopes[k] - along);
                        bias_gradient[(head * N + q) * N + k] += of_score;
                        for (int64_t c = 0; c < d; c++) {
                            PART(qkv_gradient, 0, q)[c] += a->scale * of_score * PART(qkv, 1, k)[c];
                            PART(qkv_gradient, 1, k)[c] += a->scale * of_score * PART(qkv, 0, q)[c];
                        }
                    }
                }
            }
    free(weights), free(slopes);
}

/* Rows of windows in another order, as `order` says: (tokens, width). */
static double *ordered(const void *from, int type, const int64_t *order, int64_t tokens, int64_t width, int64_t stride)
{
    double *to = room(tokens * width * 8);
    for (int64_t t = 0; t < tokens; t++)
        for (int64_t c = 0; c < width; c++)
            to[t * width + c] = number(from, type, (order ? order[t] : t) * stride + c);
    return to;
}

static void scattered(double *rows, const int64_t *order, int64_t tokens, int64_t width)
{
    double *copy = room(tokens * width * 8);
    memcpy(copy, rows, (size_t)(tokens * width * 8));
    for (int64_t t = 0; t < tokens; t++)
        memcpy(rows + (order ? order[t] : t) * width, copy + t * width, (size_t)(width * 8));
    free(copy);
}

static int64_t *shuffled(int64_t n)
{
    int64_t *order = room(n * 8);
    for (int64_t i = 0; i < n; i++)
        order[i] = i;
    for (int64_t i = n - 1; i > 0; i--) {
        int64_t other = (int64_t)((uniform() + 1) / 2 * (double)(i + 1)) % (i + 1), kept = order[i];
        order[i] = order[other], order[other] = kept;
    }
    return order;
}

static struct attention made(int64_t N, int64_t d, int64_t h, int has_bias, int has_masks, int has_order, int type)
{
    static int64_t counts[2] = {2, 1};
    struct attention a = {.num_windows = 3, .num_tokens = N, .num_heads = h, .head_dim = d, .num_classes = 2};
    a.counts = counts;
    a.scale = 1 / sqrtf((float)d);
    a.type = a.arithmetic = type;
    a.processor = processor;
    a.threads.num_threads = 1;
    a.bias = has_bias ? numbers(h * N * N, FLOAT32, 2) : NULL;
    if (has_masks) {
        float *masks = numbers(2 * N * N, FLOAT32, 1);
        for (int64_t i = 0; i < 2 * N * N; i++)
            masks[i] = i >= N * N && masks[i] > 0.4f ? -100 : 0; /* the first class has none */
        a.masks = masks;
    }
    a.order = has_order ? shuffled(3 * N) : NULL;
    return a;
}

static void forget(struct attention *a) { free((void *)a->bias), free((void *)a->masks), free((void *)a->order); }

static void check_attention(int64_t N, int64_t d, int64_t h, int has_bias, int has_masks, int has_order, int type,
                            double *worst)
{
    struct attention a = made(N, d, h, has_bias, has_masks, has_order, type);
    int64_t tokens = 3 * N, width = h * d;
    a.qkv_stride = a.qkv_gradient_stride = 3 * width, a.out_stride = a.gradient_stride = width;
    a.qkv = numbers(tokens * 3 * width, type, 1.5);
    a.out = numbers(tokens * width, type, 1);
    void *upstream = numbers(tokens * width, type, 1);
    double *qkv = ordered(a.qkv, type, a.order, tokens, 3 * width, 3 * width);
    double *gradient = ordered(upstream, type, a.order, tokens, width, width);
    double *out = room(tokens * width * 8), *slopes = room(tokens * 3 * width * 8), *bias = room(h * N * N * 8);
    attend(&a, qkv, gradient, out, slopes, bias);
    scattered(out, a.order, tokens, width);
    scattered(slopes, a.order, tokens, 3 * width);
    failures += restore_window_attention(&a) != 0;
    worst[0] = fmax(worst[0], difference(a.out, type, out, tokens * width));
    a.gradient = upstream;
    a.qkv_gradient = numbers(tokens * 3 * width, type, 1);
    a.bias_gradient = numbers(h * N * N, FLOAT32, 1);
    failures += restore_window_attention(&a) != 0;
    worst[1] = fmax(worst[1], difference(a.qkv_gradient, type, slopes, tokens * 3 * width));
    worst[2] = fmax(worst[2], difference(a.bias_gradient, FLOAT32, bias, h * N * N));
    free(qkv), free(gradient), free(out), free(slopes), free(bias), free(upstream);
    free((void *)a.qkv), free(a.out), free(a.qkv_gradient), free(a.bias_gradient), forget(&a);
}

static double *linear_of(const double *x, int64_t rows, int64_t inputs, const float *weight, const float *bias,
                         int64_t outputs)
{
    double *y = room(rows * outputs * 8);
    for (int64_t r = 0; r < rows; r++)
        for (int64_t o = 0; o < outputs; o++) {
            double sum = bias ? bias[o] : 0;
            for (int64_t i = 0; i < inputs; i++)
                sum += x[r * inputs + i] * weight[o * inputs + i];
            y[r * outputs + o] = sum;
        }
    return y;
}

static double check_branch(int64_t N, int64_t d, int64_t h, int with_attention, int type, int arithmetic)
{
    int64_t C = h * d, tokens = 3 * N, hidden = with_attention ? 3 * C : 2 * C + 3, inner = with_attention ? C : hidden;
    struct branch b = {.num_rows = tokens, .channels = C, .hidden = hidden, .x_stride = C, .out_stride = C};
    b.epsilon = 1e-5f;
    if (with_attention)
        b.attention = made(N, d, h, 1, 1, 1, type);
    else
        b.attention = (struct attention){.type = type, .processor = processor, .threads = {NULL, 1}};
    b.attention.arithmetic = arithmetic;
    float *norm_weight = numbers(C, FLOAT32, 1), *norm_bias = numbers(C, FLOAT32, 1);
    float *table = with_attention ? numbers(N * C, FLOAT32, 1) : NULL;
    float *first = numbers(hidden * C, FLOAT32, 0.3), *first_bias = numbers(hidden, FLOAT32, 1);
    float *second = numbers(C * inner, FLOAT32, 0.3);
    b.x = numbers(tokens * C, type, 1), b.out = numbers(tokens * C, type, 1);
    b.norm_weight = norm_weight, b.norm_bias = norm_bias, b.table = table;
    b.first_weight = first, b.first_bias = first_bias, b.second_weight = second;
    const int64_t *order = b.attention.order;
    double *x = ordered(b.x, type, order, tokens, C, C), *normed = room(tokens * C * 8);
    for (int64_t t = 0; t < tokens; t++) {
        double mean = 0, squares = 0;
        for (int64_t c = 0; c < C; c++)
            mean += x[t * C + c] / (double)C;
        for (int64_t c = 0; c < C; c++)
            squares += pow(x[t * C + c] - mean, 2) / (double)C;
        for (int64_t c = 0; c < C; c++)
            normed[t * C + c] = (x[t * C + c] - mean) / sqrt(squares + 1e-5) * norm_weight[c] + norm_bias[c] +
                                (table ? table[t % N * C + c] : 0);
    }
    double *middle = linear_of(normed, tokens, C, first, first_bias, hidden), *mixed = middle;
    if (with_attention) {
        mixed = room(tokens * C * 8);
        attend(&b.attention, middle, NULL, mixed, NULL, NULL);
    } else
        for (int64_t i = 0; i < tokens * hidden; i++)
            middle[i] = middle[i] / 2 * (1 + erf(middle[i] / sqrt(2)));
    double *out = linear_of(mixed, tokens, inner, second, NULL, C);
    for (int64_t i = 0; i < tokens * C; i++)
        out[i] += x[i];
    scattered(out, order, tokens, C);
    failures += restore_branch(&b) != 0;
    double found = difference(b.out, type, out, tokens * C);
    if (mixed != middle)
        free(mixed);
    free(x), free(normed), free(middle), free(out), free(norm_weight), free(norm_bias), free(table);
    free(first), free(first_bias), free(second), free((void *)b.x), free(b.out), forget(&b.attention);
    return found;
}

/* The largest differences of out, the gradient of x, and those of weight and bias. */
static void check_norm(int64_t rows, int64_t C, int affine, int type, double worst[3])
{
    struct layer_norm b = {.num_rows = rows, .channels = C, .epsilon = 1e-5f, .type = type, .processor = processor};
    float *weight = affine ? numbers(C, FLOAT32, 1) : NULL, *bias = affine ? numbers(C, FLOAT32, 1) : NULL;
    void *gradient = numbers(rows * C, type, 1);
    b.threads.num_threads = 1, b.weight = weight, b.bias = bias;
    b.x = numbers(rows * C, type, 2), b.out = numbers(rows * C, type, 1), b.x_gradient = numbers(rows * C, type, 1);
    b.statistics = room(rows * 2 * 4), b.affine_gradient = affine ? room(2 * C * 4) : NULL;
    double *out = room(rows * C * 8), *of_x = room(rows * C * 8), *of_affine = room(2 * C * 8);
    for (int64_t row = 0; row < rows; row++) {
        double mean = 0, squares = 0, sum = 0, product = 0;
        for (int64_t c = 0; c < C; c++)
            mean += number(b.x, type, row * C + c) / (double)C;
        for (int64_t c = 0; c < C; c++)
            squares += pow(number(b.x, type, row * C + c) - mean, 2) / (double)C;
        for (int pass = 0; pass < 2; pass++)
            for (int64_t c = 0, i = row * C; c < C; c++, i++) {
                double normed = (number(b.x, type, i) - mean) / sqrt(squares + 1e-5), g = number(gradient, type, i);
                double weighted = g * (weight ? weight[c] : 1);
                if (pass) {
                    out[i] = normed * (weight ? weight[c] : 1) + (bias ? bias[c] : 0);
                    of_x[i] = (weighted - sum - normed * product) / sqrt(squares + 1e-5);
                    of_affine[c] += g * normed, of_affine[C + c] += g;
                } else
                    sum += weighted / (double)C, product += weighted * normed / (double)C;
            }
    }
    failures += restore_layer_norm(&b) != 0;
    b.gradient = gradient;
    failures += restore_layer_norm(&b) != 0;
    worst[0] = fmax(worst[0], difference(b.out, type, out, rows * C));
    worst[1] = fmax(worst[1], difference(b.x_gradient, type, of_x, rows * C));
    if (affine)
        worst[2] = fmax(worst[2], difference(b.affine_gradient, FLOAT32, of_affine, 2 * C));
    free(weight), free(bias), free(gradient), free((void *)b.x), free(b.out), free(b.x_gradient), free(b.statistics);
    free(b.affine_gradient), free(out), free(of_x), free(of_affine);
}

static double check_convolution(int64_t images, int64_t height, int64_t width, int64_t inputs, int64_t outputs)
{
    static const float G[4][3] = {{1, 0, 0}, {0.5f, 0.5f, 0.5f}, {0.5f, -0.5f, 0.5f}, {0, 0, 1}};
    int64_t size = images * height * width, each = outputs * inputs;
    float *x = numbers(size * inputs, FLOAT32, 1), *weight = numbers(each * 9, FLOAT32, 0.3);
    float *bias = inputs % 2 ? numbers(outputs, FLOAT32, 1) : NULL, *out = numbers(size * outputs, FLOAT32, 1);
    float *transformed = room(POSITIONS * each * 4);
    for (int64_t i = 0; i < POSITIONS * each * 9; i++) {
        const float *row = G[i / 9 / each / 4], *column = G[i / 9 / each % 4];
        transformed[i / 9] += row[i % 9 / 3] * column[i % 3] * weight[i / 9 % each * 9 + i % 9];
    }
    double *expected = room(size * outputs * 8);
    for (int64_t i = 0; i < size * outputs * 9; i++) {
        int64_t at = i / 9 / outputs, o = i / 9 % outputs, top = at / width / height * height, kernel = i % 9;
        int64_t row = at / width % height + kernel / 3 - 1, column = at % width + kernel % 3 - 1;
        expected[i / 9] += bias && !kernel ? bias[o] : 0;
        for (int64_t c = 0; c < inputs && row >= 0 && row < height && column >= 0 && column < width; c++)
            expected[i / 9] += (double)x[((top + row) * width + column) * inputs + c] * weight[(o * inputs + c) * 9 + kernel];
    }
    struct convolution b = {images, height, width, inputs, outputs, x, out, transformed, bias, NULL, {NULL, 1}, 0, 0};
    b.processor = processor, b.packed = room(restore_packed_convolution(&b) * 4);
    failures += restore_pack_convolution(&b) != 0 || restore_convolution(&b) != 0;
    double found = difference(out, FLOAT32, expected, size * outputs);
    free(x), free(weight), free(bias), free(out), free(transformed), free(expected), free(b.packed);
    return found;
}

int main(int argc, char **argv)
{
    static const int64_t tokens[] = {1, 3, 16, 49, 64}, widths[] = {1, 7, 10, 16, 30, 32};
    if (argc > 1 && !strcmp(argv[1], "most"))
        return printf("%d\n", restore_processor()) < 0;
    processor = argc > 1 ? atoi(argv[1]) : restore_processor();
    printf("processor %d of at most %d\n", processor, restore_processor());
    for (int type = FLOAT32; type <= BFLOAT16; type++) {
        double worst[3] = {0}, attention = 0, gelu = 0, products = 0;
        double limit = type == FLOAT32 ? 5e-6 : 8e-3; /* half a step of bfloat16 is 4e-3 */
        for (int i = 0; i < 5; i++)
            for (int j = 0; j < 6; j++) {
                int kind = i * 6 + j;
                check_attention(tokens[i], widths[j], 1 + kind % 3, kind & 1, kind & 2, kind & 4, type, worst);
                attention = fmax(attention, check_branch(tokens[i], widths[j], 1 + kind % 3, 1, type, FLOAT32));
                gelu = fmax(gelu, check_branch(tokens[i], widths[j], 1 + kind % 3, 0, type, FLOAT32));
                for (int middle = 0; middle < 2; middle++)
                    products = fmax(products, check_branch(tokens[i], widths[j], 1 + kind % 3, middle, type, BFLOAT16));
            }
        judge("attention", type, worst[0], limit);
        judge("gradient of q, k, v", type, worst[1], limit);
        judge("gradient of the bias", type, worst[2], 5e-6);
        judge("branch with attention", type, attention, limit);
        judge("branch with GELU", type, gelu, limit);
        judge("branch, bfloat16 products", type, products, 3e-2);
        double norms[3] = {0};
        for (int64_t C = 6; C <= 130; C += C < 70 ? 1 : 13)
            check_norm(1 + C % 7 * 100, C, C % 3 != 0, type, norms);
        judge("layer norm", type, norms[0], limit);
        judge("its gradient of x", type, norms[1], limit);
        judge("of weight and bias", type, norms[2], 5e-6);
    }
    double convolution = 0;
    for (int64_t i = 1; i <= 40; i++) /* some have more tiles than a workspace has room for */
        convolution = fmax(convolution, check_convolution(1 + i % 2, 1 + i * 7 % 29, 1 + i * 7 % 13, i, 1 + i * 5 % 67));
    judge("convolution", FLOAT32, convolution, 5e-6);
    return failures != 0;
}
