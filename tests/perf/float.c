/* Workloads: scalar floating point, double precision in SSE registers and extended in the x87. */
#include <math.h>
#include <string.h>

#include "workload.h"

static uint64_t bits_of(double x)
{
    uint64_t bits;

    memcpy(&bits, &x, 8);
    return bits;
}

/* Five bodies under gravity: multiplications, a square root and a division in a chain. */
struct body {
    double position[3], velocity[3], mass;
};

static uint64_t nbody_run(void)
{
    struct body body[5];
    uint64_t seed = 21, sum = 0;

    for (int i = 0; i < 5; i++) {
        for (int axis = 0; axis < 3; axis++) {
            body[i].position[axis] = (double)(next_random(&seed) >> 40) / 1e6;
            body[i].velocity[axis] = (double)(next_random(&seed) >> 40) / 1e8;
        }
        body[i].mass = 1 + i;
    }
    for (int step = 0; step < 10000; step++) {
        for (int i = 0; i < 5; i++) {
            for (int j = i + 1; j < 5; j++) {
                double d[3], square = 1e-3;
                for (int axis = 0; axis < 3; axis++) {
                    d[axis] = body[i].position[axis] - body[j].position[axis];
                    square += d[axis] * d[axis];
                }
                double magnitude = 0.001 / (square * sqrt(square));
                for (int axis = 0; axis < 3; axis++) {
                    body[i].velocity[axis] -= d[axis] * body[j].mass * magnitude;
                    body[j].velocity[axis] += d[axis] * body[i].mass * magnitude;
                }
            }
        }
        for (int i = 0; i < 5; i++)
            for (int axis = 0; axis < 3; axis++)
                body[i].position[axis] += 0.001 * body[i].velocity[axis];
    }
    for (int i = 0; i < 5; i++)
        sum = mix(sum, bits_of(body[i].position[0]));
    return sum;
}

static uint64_t mandelbrot_run(void)
{
    uint64_t sum = 0;

    for (int row = 0; row < 60; row++) {
        for (int column = 0; column < 80; column++) {
            double cr = column / 40.0 - 1.5, ci = row / 30.0 - 1, zr = 0, zi = 0;
            int n = 0;
            while (n < 200 && zr * zr + zi * zi < 4) {
                double t = zr * zr - zi * zi + cr;
                zi = 2 * zr * zi + ci;
                zr = t;
                n++;
            }
            sum = mix(sum, (uint64_t)n);
        }
    }
    return sum;
}

#define N 96
static double a[N][N], b[N][N], c[N][N];

static void prepare_matrix(void)
{
    for (int i = 0; i < N; i++) {
        for (int j = 0; j < N; j++) {
            a[i][j] = i + j / 8.0;
            b[i][j] = i - j / 4.0;
        }
    }
}

static uint64_t matmul_run(void)
{
    uint64_t sum = 0;

    for (int i = 0; i < N; i++) {
        for (int j = 0; j < N; j++) {
            double total = 0;
            for (int k = 0; k < N; k++)
                total += a[i][k] * b[k][j];
            c[i][j] = total;
        }
    }
    for (int i = 0; i < N; i++)
        sum = mix(sum, bits_of(c[i][i]));
    return sum;
}

/* Conversions and comparisons between integers, floats and doubles. */
static uint64_t convert_run(void)
{
    uint64_t seed = 22, sum = 0;

    for (int i = 0; i < 150000; i++) {
        int32_t n = (int32_t)next_random(&seed);
        double d = n * 0.37;
        float f = (float)d;
        if (f > 1e6f)
            f *= 0.5f;
        sum += (uint64_t)(int64_t)f + (uint64_t)(int64_t)(d + 0.5);
    }
    return sum;
}

/* The C library's sin, exp and pow, as numeric programs call them. */
static uint64_t libm_run(void)
{
    uint64_t sum = 0;
    volatile double step = 0.01;

    for (int i = 1; i < 20000; i++) {
        double x = i * step;
        /* The library picks FMA code by CPUID, which may change the last bits. */
        sum = mix(sum, (uint64_t)(1e6 * (sin(x) + exp(-x / 20) + pow(x, 0.3))));
    }
    return sum;
}

static uint64_t x87_run(void)
{
    long double sum = 0, x = 0.5L;
    uint64_t result;

    for (int i = 1; i < 60000; i++) {
        sum += x / (long double)i;
        x = x * 1.0000001L + 1e-9L;
    }
    for (int i = 0; i < 1500; i++) {
        long double s = 0.001L * i;
        asm volatile("fsin" : "+t"(s));
        sum += s;
    }
    memcpy(&result, &sum, 8);
    return result >> 12; /* fsin's last bits differ between implementations */
}

const struct workload float_workloads[] = {
    {"nbody", "float", nbody_run, NULL, NULL},
    {"mandelbrot", "float", mandelbrot_run, NULL, NULL},
    {"matmul", "float", matmul_run, prepare_matrix, NULL},
    {"convert", "float", convert_run, NULL, NULL},
    {"libm", "float", libm_run, NULL, NULL},
    {"x87", "float", x87_run, NULL, NULL},
    {0},
};
