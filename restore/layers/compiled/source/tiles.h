/* What this compiler knows: matrix tiles, where the system can be asked for them, and products of bfloat16 pairs. */
#if defined(__x86_64__) && defined(__has_include)
#if __has_include(<avx512bf16intrin.h>)
#define HAS_PAIRS
#endif
#endif
#if defined(__x86_64__) && defined(__linux__) && defined(__has_include)
#if __has_include(<amxbf16intrin.h>)
#define HAS_TILES
#endif
#endif
