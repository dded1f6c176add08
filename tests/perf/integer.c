/* Workloads: integer arithmetic without much memory or branching, and sorting. */
#include <string.h>

#include "workload.h"

static uint8_t data[256 * 1024];
static uint32_t crc_table[256];

static void prepare_data(void)
{
    uint64_t seed = 1;

    for (size_t i = 0; i < sizeof(data); i += 8) {
        uint64_t value = next_random(&seed);
        memcpy(data + i, &value, 8);
    }
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t c = i;
        for (int bit = 0; bit < 8; bit++)
            c = c & 1 ? c >> 1 ^ 0xedb88320u : c >> 1;
        crc_table[i] = c;
    }
}

/* CRC-32 with one table look-up a byte: a chain of dependent loads. */
static uint64_t crc32_run(void)
{
    uint32_t crc = ~0u;

    for (size_t i = 0; i < sizeof(data); i++)
        crc = crc >> 8 ^ crc_table[(crc ^ data[i]) & 0xff];
    return ~crc;
}

static uint32_t rotate_right(uint32_t x, int n)
{
    return x >> n | x << (32 - n);
}

/* SHA-256 (FIPS 180-4) compression over the data, without padding. The round constants are drawn
 * from the generator instead of the standard's table: the work is the same. */
static uint64_t sha256_run(void)
{
    uint32_t h[8] = {1, 2, 3, 4, 5, 6, 7, 8}, k[64], w[64];
    uint64_t seed = 2;

    for (int i = 0; i < 64; i++)
        k[i] = (uint32_t)next_random(&seed);
    for (size_t block = 0; block < sizeof(data) / 2; block += 64) {
        memcpy(w, data + block, 64);
        for (int i = 16; i < 64; i++) {
            uint32_t s0 = rotate_right(w[i - 15], 7) ^ rotate_right(w[i - 15], 18) ^ w[i - 15] >> 3;
            uint32_t s1 = rotate_right(w[i - 2], 17) ^ rotate_right(w[i - 2], 19) ^ w[i - 2] >> 10;
            w[i] = w[i - 16] + s0 + w[i - 7] + s1;
        }
        uint32_t a = h[0], b = h[1], c = h[2], d = h[3], e = h[4], f = h[5], g = h[6], t = h[7];
        for (int i = 0; i < 64; i++) {
            uint32_t s1 = rotate_right(e, 6) ^ rotate_right(e, 11) ^ rotate_right(e, 25);
            uint32_t t1 = t + s1 + ((e & f) ^ (~e & g)) + k[i] + w[i];
            uint32_t s0 = rotate_right(a, 2) ^ rotate_right(a, 13) ^ rotate_right(a, 22);
            uint32_t t2 = s0 + ((a & b) ^ (a & c) ^ (b & c));
            t = g, g = f, f = e, e = d + t1, d = c, c = b, b = a, a = t1 + t2;
        }
        h[0] += a, h[1] += b, h[2] += c, h[3] += d, h[4] += e, h[5] += f, h[6] += g, h[7] += t;
    }
    return (uint64_t)h[0] << 32 | h[7];
}

#define SORT_COUNT 16384
static uint32_t sort_array[SORT_COUNT];

static void quicksort(uint32_t *a, int low, int high)
{
    while (low < high) {
        uint32_t pivot = a[low + (high - low) / 2];
        int i = low, j = high;

        while (i <= j) {
            while (a[i] < pivot)
                i++;
            while (a[j] > pivot)
                j--;
            if (i <= j) {
                uint32_t t = a[i];
                a[i++] = a[j];
                a[j--] = t;
            }
        }
        /* Recurse into the smaller part only, so that the stack stays small. */
        if (j - low < high - i) {
            quicksort(a, low, j);
            low = i;
        } else {
            quicksort(a, i, high);
            high = j;
        }
    }
}

static uint64_t sort_run(void)
{
    uint64_t seed = 3, sum = 0;

    for (int i = 0; i < SORT_COUNT; i++)
        sort_array[i] = (uint32_t)next_random(&seed);
    quicksort(sort_array, 0, SORT_COUNT - 1);
    for (int i = 0; i < SORT_COUNT; i += 61)
        sum = mix(sum, sort_array[i]);
    return sum;
}

/* Modular exponentiation: wide multiplication and division. */
static uint64_t modexp_run(void)
{
    uint64_t seed = 4, sum = 0;

    for (int i = 0; i < 250; i++) {
        uint64_t modulus = next_random(&seed) | 1ull << 63 | 1, exponent = next_random(&seed);
        uint64_t base = next_random(&seed) % modulus, power = 1;
        for (; exponent; exponent >>= 1) {
            if (exponent & 1)
                power = (uint64_t)((unsigned __int128)power * base % modulus);
            base = (uint64_t)((unsigned __int128)base * base % modulus);
        }
        sum = mix(sum, power);
    }
    return sum;
}

/* Flag-heavy: add with carry over 2,048-bit numbers, as big-number libraries do. */
static uint64_t bignum_run(void)
{
    uint64_t a[32], b[32], seed = 5;

    for (int i = 0; i < 32; i++) {
        a[i] = next_random(&seed);
        b[i] = next_random(&seed);
    }
    for (int round = 0; round < 40000; round++) {
        uint64_t count = 4, i = 0;
        uint64_t *x = a, *y = b;
        asm volatile("clc\n"
                     "1: mov (%[y],%[i],8), %%rax\n"
                     "adc %%rax, (%[x],%[i],8)\n"
                     "mov 8(%[y],%[i],8), %%rax\n"
                     "adc %%rax, 8(%[x],%[i],8)\n"
                     "mov 16(%[y],%[i],8), %%rax\n"
                     "adc %%rax, 16(%[x],%[i],8)\n"
                     "mov 24(%[y],%[i],8), %%rax\n"
                     "adc %%rax, 24(%[x],%[i],8)\n"
                     "lea 8(%[i]), %[i]\n"
                     "dec %[count]\n"
                     "jnz 1b\n"
                     : [count] "+r"(count), [i] "+r"(i)
                     : [x] "r"(x), [y] "r"(y)
                     : "rax", "cc", "memory");
        b[round & 31] ^= a[(round + 7) & 31];
    }
    uint64_t sum = 0;
    for (int i = 0; i < 32; i++)
        sum = mix(sum, a[i]);
    return sum;
}

const struct workload integer_workloads[] = {
    {"crc32", "integer", crc32_run, prepare_data, NULL},
    {"sha256", "integer", sha256_run, prepare_data, NULL},
    {"sort", "integer", sort_run, NULL, NULL},
    {"modexp", "integer", modexp_run, NULL, NULL},
    {"bignum", "integer", bignum_run, NULL, NULL},
    {0},
};
