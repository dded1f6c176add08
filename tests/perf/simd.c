/* Workloads: vector code, written with intrinsics so that it is what it says: SSE2 to SSE4.1 and,
 * where the CPU has them, AVX2 with FMA, AES and carry-less multiplication. */
#include <immintrin.h>
#include <string.h>

#include "workload.h"

#define COUNT 16384
static float fx[COUNT] __attribute__((aligned(32)));
static float fy[COUNT] __attribute__((aligned(32)));
static uint8_t bx[COUNT] __attribute__((aligned(32)));
static uint8_t by[COUNT] __attribute__((aligned(32)));

static void prepare(void)
{
    uint64_t seed = 31;

    for (int i = 0; i < COUNT; i++) {
        fx[i] = (float)(next_random(&seed) >> 44) / 1024;
        fy[i] = (float)(next_random(&seed) >> 44) / 1024;
        bx[i] = (uint8_t)next_random(&seed);
        by[i] = (uint8_t)next_random(&seed);
    }
}

static uint64_t fold(__m128i v)
{
    uint64_t part[2];

    _mm_storeu_si128((__m128i *)part, v);
    return mix(part[0], part[1]);
}

/* Single precision multiply-add over arrays, result reduced by a dot product. */
static uint64_t sse_float_run(void)
{
    __m128 total = _mm_setzero_ps(), factor = _mm_set1_ps(0.999f);

    for (int round = 0; round < 400; round++)
        for (int i = 0; i < COUNT; i += 8) {
            __m128 a = _mm_mul_ps(_mm_load_ps(fx + i), factor);
            __m128 b = _mm_mul_ps(_mm_loadu_ps(fx + i + 4), factor);
            a = _mm_add_ps(a, _mm_load_ps(fy + i));
            b = _mm_max_ps(b, _mm_load_ps(fy + i + 4));
            total = _mm_add_ps(total, _mm_sub_ps(a, _mm_sqrt_ps(b)));
        }
    return fold(_mm_castps_si128(total));
}

static uint64_t sse_double_run(void)
{
    __m128d total = _mm_setzero_pd(), x = _mm_set_pd(1.25, 0.75);

    for (int i = 0; i < 200000; i++) {
        __m128d t = _mm_add_pd(_mm_mul_pd(x, _mm_set1_pd(0.9999)), _mm_set1_pd(1e-3));
        total = _mm_add_pd(total, _mm_mul_pd(t, t));
        x = _mm_shuffle_pd(t, t, 1);
    }
    return fold(_mm_castpd_si128(total));
}

/* Byte and word arithmetic as image and video code has it: differences, averages, packing. */
static uint64_t sse_integer_run(void)
{
    __m128i total = _mm_setzero_si128(), bias = _mm_set1_epi16(128);

    for (int round = 0; round < 1000; round++) {
        for (int i = 0; i < COUNT; i += 16) {
            __m128i a = _mm_load_si128((const __m128i *)(bx + i));
            __m128i b = _mm_load_si128((const __m128i *)(by + i));
            __m128i low = _mm_unpacklo_epi8(a, b), high = _mm_unpackhi_epi8(a, b);
            low = _mm_add_epi16(_mm_mullo_epi16(low, bias), _mm_srli_epi16(high, 3));
            total =
                _mm_add_epi64(total, _mm_sad_epu8(a, _mm_avg_epu8(b, _mm_packus_epi16(low, high))));
        }
    }
    return fold(total);
}

__attribute__((target("sse4.1"))) static uint64_t sse_shuffle_run(void)
{
    __m128i state = _mm_set_epi32(1, 2, 3, 4);
    __m128i pattern = _mm_set_epi8(3, 7, 11, 15, 2, 6, 10, 14, 1, 5, 9, 13, 0, 4, 8, 12);
    uint64_t sum = 0;

    for (int i = 0; i < 250000; i++) {
        state = _mm_add_epi32(_mm_shuffle_epi8(state, pattern), _mm_set1_epi32(i));
        state = _mm_xor_si128(state, _mm_srli_epi32(_mm_mullo_epi32(state, state), 7));
        sum += (uint64_t)_mm_movemask_epi8(state);
    }
    return mix(fold(state), sum);
}

__attribute__((target("avx2,fma"))) static uint64_t avx_float_run(void)
{
    __m256 total = _mm256_setzero_ps(), factor = _mm256_set1_ps(0.999f);

    for (int round = 0; round < 600; round++)
        for (int i = 0; i < COUNT; i += 8)
            total = _mm256_add_ps(
                total, _mm256_fmadd_ps(_mm256_load_ps(fx + i), factor, _mm256_load_ps(fy + i)));
    return mix(fold(_mm_castps_si128(_mm256_castps256_ps128(total))),
               fold(_mm_castps_si128(_mm256_extractf128_ps(total, 1))));
}

__attribute__((target("avx2"))) static uint64_t avx_integer_run(void)
{
    __m256i total = _mm256_setzero_si256();

    for (int round = 0; round < 2500; round++)
        for (int i = 0; i < COUNT; i += 32) {
            __m256i a = _mm256_load_si256((const __m256i *)(bx + i));
            __m256i b = _mm256_load_si256((const __m256i *)(by + i));
            __m256i d = _mm256_maddubs_epi16(a, _mm256_shuffle_epi8(b, a));
            total = _mm256_add_epi64(total, _mm256_sad_epu8(_mm256_permute4x64_epi64(d, 0x4e), b));
        }
    return mix(fold(_mm256_castsi256_si128(total)), fold(_mm256_extracti128_si256(total, 1)));
}

/* AES rounds and carry-less multiplication, as in disk encryption and TLS. */
__attribute__((target("aes,pclmul,sse4.1"))) static uint64_t aes_run(void)
{
    __m128i block = _mm_set_epi32(1, 2, 3, 4), key = _mm_set_epi32(5, 6, 7, 8);
    __m128i tag = _mm_set_epi32(9, 10, 11, 12);

    for (int i = 0; i < 40000; i++) {
        for (int round = 0; round < 10; round++)
            block = _mm_aesenc_si128(block, key);
        tag = _mm_xor_si128(_mm_clmulepi64_si128(tag, block, 0x10), key);
        key = _mm_add_epi64(key, tag);
    }
    return mix(fold(block), fold(tag));
}

const struct workload simd_workloads[] = {
    {"sse-float", "simd", sse_float_run, prepare, NULL},
    {"sse-double", "simd", sse_double_run, prepare, NULL},
    {"sse-integer", "simd", sse_integer_run, prepare, NULL},
    {"sse-shuffle", "simd", sse_shuffle_run, prepare, NULL},
    {"avx-float", "simd", avx_float_run, prepare, NULL},
    {"avx-integer", "simd", avx_integer_run, prepare, NULL},
    {"aes", "simd", aes_run, prepare, NULL},
    {0},
};
