/* The largest and second largest of x.c - |c|^2 / 2 over a codebook, and where the largest is: product, minimum and runner-up in one pass, so
   that nothing of N x K is ever written. `native.py` calls it through ctypes; README.md has the times.

   Codes come in panels of 32: [panels, width, 32], so that the same component of neighbouring codes lies side by side. A tile of 4 rows meets
   two vectors of codes at a time; the running maxima are kept by lane and put together at the end. Keeping where a maximum was costs as much as
   half of the products of 8 columns, so it is kept for a span of panels, and the winner's span is looked through again. Compiled once for each
   kind of x86-64 processor; without vectors it took five times as long as matrix products. */

#include <immintrin.h>
#include <stdint.h>

#define PANEL 32
#define ROWS 4
#define CHUNK 128
_Static_assert(CHUNK % ROWS == 0, "tiles fill a chunk");
#define LEAST (-3.0e38f) /* below every score, and finite: a lane without a code never wins */
#define SPAN_COLUMNS 64 /* panels of a span times width */
#define PANEL_BYTES (128 * 1024) /* of codes that stay in a cache while all rows of a chunk meet them */

#define NAME nearest_avx512
#define TARGET __attribute__((target("avx512f")))
#define LANES 16
#define FLOATS __m512
#define INTEGERS __m512i
#define LOAD(p) _mm512_loadu_ps(p)
#define STORE(p, v) _mm512_storeu_ps(p, v)
#define LOAD_INTEGERS(p) _mm512_loadu_si512(p)
#define STORE_INTEGERS(p, v) _mm512_storeu_si512(p, v)
#define ALL(value) _mm512_set1_ps(value)
#define ALL_INTEGERS(value) _mm512_set1_epi32(value)
#define MULTIPLY_ADD(a, b, c) _mm512_fmadd_ps(a, b, c)
#define LARGER(a, b) _mm512_max_ps(a, b)
#define SMALLER(a, b) _mm512_min_ps(a, b)
#define WHERE_ABOVE(a, b, yes, no) _mm512_mask_mov_epi32(no, _mm512_cmp_ps_mask(a, b, _CMP_GT_OQ), yes)
#include "nearest_rows.h"

#define NAME nearest_avx2
#define TARGET __attribute__((target("avx2,fma")))
#define LANES 8
#define FLOATS __m256
#define INTEGERS __m256i
#define LOAD(p) _mm256_loadu_ps(p)
#define STORE(p, v) _mm256_storeu_ps(p, v)
#define LOAD_INTEGERS(p) _mm256_loadu_si256((const __m256i *)(p))
#define STORE_INTEGERS(p, v) _mm256_storeu_si256((__m256i *)(p), v)
#define ALL(value) _mm256_set1_ps(value)
#define ALL_INTEGERS(value) _mm256_set1_epi32(value)
#define MULTIPLY_ADD(a, b, c) _mm256_fmadd_ps(a, b, c)
#define LARGER(a, b) _mm256_max_ps(a, b)
#define SMALLER(a, b) _mm256_min_ps(a, b)
#define WHERE_ABOVE(a, b, yes, no) \
    _mm256_castps_si256(_mm256_blendv_ps(_mm256_castsi256_ps(no), _mm256_castsi256_ps(yes), _mm256_cmp_ps(a, b, _CMP_GT_OQ)))
#include "nearest_rows.h"

/* 2 where this processor has AVX-512, 1 with AVX2 and FMA, else 0. */
int tokkit_nearest_kind(void)
{
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f"))
        return 2;
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        return 1;
    return 0;
}

/* x [rows, width]; codes [panels, width, 32]; offset [panels * 32], minus |c|^2 / 2, LEAST where there is no code. Writes index, best and
   second, [rows] each. kind: 1 or 2, at most `tokkit_nearest_kind()`. Threads are OpenMP's, which torch's are too:
   others would have to share the cores with those, which spin for a while after their last work. */
void tokkit_nearest(int kind, int threads, const float *x, int64_t rows, int64_t width, const float *codes, const float *offset,
                    int64_t panels, int64_t *index, float *best, float *second)
{
#pragma omp parallel for num_threads(threads) schedule(dynamic)
    for (int64_t start = 0; start < rows; start += CHUNK) {
        int64_t count = rows - start < CHUNK ? rows - start : CHUNK;
        const float *part = x + start * width;
        if (kind == 2)
            nearest_avx512(part, count, width, codes, offset, panels, index + start, best + start, second + start);
        else
            nearest_avx2(part, count, width, codes, offset, panels, index + start, best + start, second + start);
    }
}
