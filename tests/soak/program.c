/*
 * What the soak compiles and runs: floating point (scalar, x87 and, as compiled, vectors), atomics
 * and locks between threads, mappings that come and go, signals, and pipes between processes.
 * Prints checksums that depend on nothing but the seed, its argument.
 */
#include <math.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define COUNT 4096
#define THREADS 4

static uint64_t state;

static uint32_t next_random(void)
{
    state = state * 6364136223846793005ull + 1442695040888963407ull;
    return (uint32_t)(state >> 32);
}

static uint64_t hash(uint64_t sum, const void *data, size_t size)
{
    const unsigned char *bytes = data;

    for (size_t i = 0; i < size; i++)
        sum = (sum ^ bytes[i]) * 0x100000001b3ull;
    return sum;
}

static void give_up(const char *what)
{
    perror(what);
    exit(1);
}

/* ---- floating point ---- */

static uint64_t doubles(void)
{
    static double a[COUNT], b[COUNT], c[COUNT];
    uint64_t sum = 0;

    for (unsigned i = 0; i < COUNT; i++) {
        a[i] = next_random() / 65536.0;
        b[i] = next_random() / 1e6 + 1;
    }
    for (unsigned round = 0; round < 200; round++) {
        for (unsigned i = 0; i < COUNT; i++)
            c[i] = a[i] * b[i] - a[i] / b[i] + sqrt(a[i]);
        for (unsigned i = 0; i < COUNT; i++)
            a[i] = c[i] > 1e4 ? c[i] / 4096 : c[i];
        sum = hash(sum, c, sizeof(c));
    }
    for (unsigned i = 0; i < COUNT; i++)
        c[i] = sin(a[i]) + exp(-b[i]) * log(b[i] + 1) + pow(b[i], 0.3);
    return hash(sum, c, sizeof(c));
}

static uint64_t floats(void)
{
    static float matrix[64][64], result[64][64];
    uint64_t sum = 0;

    for (unsigned i = 0; i < 64 * 64; i++)
        matrix[i / 64][i % 64] = (float)(next_random() % 1000) / 512;
    for (unsigned round = 0; round < 20; round++) {
        memset(result, 0, sizeof(result));
        for (unsigned i = 0; i < 64; i++)
            for (unsigned k = 0; k < 64; k++)
                for (unsigned j = 0; j < 64; j++)
                    result[i][j] += matrix[i][k] * matrix[k][j];
        for (unsigned i = 0; i < 64 * 64; i++)
            matrix[i / 64][i % 64] = fmodf(result[i / 64][i % 64], 2);
        sum = hash(sum, matrix, sizeof(matrix));
    }
    return sum;
}

static uint64_t long_doubles(void)
{
    long double x = next_random() / 4294967296.0L;
    uint64_t sum = 0;

    for (unsigned i = 0; i < 100000; i++) {
        x = 3.9L * x * (1 - x) + sinl(x) / 1024;
        if (x >= 1 || x <= 0)
            x = 0.5L / (i + 1);
        sum = hash(sum, &x, 10);
    }
    return sum;
}

static uint64_t integers(void)
{
    static uint8_t bytes[COUNT];
    static int16_t words[COUNT];
    uint64_t sum = 0;

    for (unsigned round = 0; round < 300; round++) {
        for (unsigned i = 0; i < COUNT; i++)
            bytes[i] = (uint8_t)(next_random() >> 7);
        for (unsigned i = 0; i < COUNT; i++)
            words[i] = (int16_t)(bytes[i] * 5 - (bytes[COUNT - 1 - i] >> 2));
        for (unsigned i = 0; i < COUNT; i++)
            sum += (uint64_t)llabs(words[i]) << (i & 7);
        sum = hash(sum, words, sizeof(words));
    }
    return sum;
}

/* ---- threads ---- */

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t turned = PTHREAD_COND_INITIALIZER;
static _Atomic uint64_t atomic_sum, atomic_xor;
static uint64_t locked_sum;
static unsigned turn;

static void *thread_main(void *argument)
{
    unsigned self = (unsigned)(uintptr_t)argument;

    for (uint64_t i = 0; i < 100000; i++) {
        atomic_sum += i * (self + 1);
        atomic_xor ^= i << self;
        if (i % 16 == 0) {
            pthread_mutex_lock(&mutex);
            locked_sum = locked_sum + i;
            pthread_mutex_unlock(&mutex);
        }
    }
    for (unsigned i = 0; i < 500; i++) {
        pthread_mutex_lock(&mutex);
        while (turn % THREADS != self)
            pthread_cond_wait(&turned, &mutex);
        turn++;
        locked_sum = locked_sum * 31 + self;
        pthread_cond_broadcast(&turned);
        pthread_mutex_unlock(&mutex);
    }
    return NULL;
}

static uint64_t threads(void)
{
    pthread_t thread[THREADS];
    uint64_t results[3];

    for (unsigned i = 0; i < THREADS; i++)
        if (pthread_create(&thread[i], NULL, thread_main, (void *)(uintptr_t)i))
            give_up("pthread_create");
    for (unsigned i = 0; i < THREADS; i++)
        pthread_join(thread[i], NULL);
    results[0] = atomic_sum;
    results[1] = atomic_xor;
    results[2] = turn;
    return hash(0, results, sizeof(results));
}

/* ---- memory, signals, processes ---- */

static uint64_t mappings(void)
{
    uint64_t sum = 0;

    for (unsigned round = 0; round < 400; round++) {
        size_t size = (1 + next_random() % 64) * 4096;
        uint32_t *memory =
            mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

        if (memory == MAP_FAILED)
            give_up("mmap");
        for (size_t i = 0; i < size / 4; i += 17)
            memory[i] = next_random();
        if (mprotect(memory, size / 2 & ~4095ul, PROT_READ) < 0 && size >= 8192)
            give_up("mprotect");
        sum = hash(sum, memory, size < 16384 ? size : 16384);
        munmap(memory, size);
    }
    return sum;
}

static sigjmp_buf back;

static void on_signal(int number)
{
    siglongjmp(back, number);
}

/* Faults at places and times of every kind. */
static uint64_t signals(void)
{
    volatile uint64_t sum = 0;
    volatile int zero = 0;
    char *volatile page = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    signal(SIGSEGV, on_signal);
    signal(SIGFPE, on_signal);
    for (volatile unsigned i = 0; i < 5000; i++) {
        int number = sigsetjmp(back, 1);

        if (number) {
            sum = sum * 31 + (unsigned)number;
            continue;
        }
        if (i % 2)
            page[i % 4096] = 1;
        else
            zero = 1 / zero;
    }
    munmap(page, 4096);
    return sum;
}

static uint64_t processes(void)
{
    uint64_t sum = 0;

    for (unsigned i = 0; i < 60; i++) {
        int ends[2];
        uint32_t value = next_random();

        if (pipe(ends) < 0)
            give_up("pipe");
        pid_t child = fork();
        if (child < 0)
            give_up("fork");
        if (child == 0) {
            for (unsigned k = 0; k < 1000; k++) {
                value = value * 1664525 + 1013904223;
                if (write(ends[1], &value, sizeof(value)) != sizeof(value))
                    _exit(1);
            }
            _exit(7);
        }
        close(ends[1]);
        while (read(ends[0], &value, sizeof(value)) == sizeof(value))
            sum = hash(sum, &value, sizeof(value));
        close(ends[0]);

        int status;
        waitpid(child, &status, 0);
        sum = sum * 3 + (unsigned)status;
    }
    return sum;
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        uint64_t (*run)(void);
    } parts[] = {
        {"doubles", doubles},   {"floats", floats},       {"long doubles", long_doubles},
        {"integers", integers}, {"threads", threads},     {"mappings", mappings},
        {"signals", signals},   {"processes", processes},
    };

    state = argc > 1 ? strtoul(argv[1], NULL, 0) : 0;
    for (unsigned i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
        printf("%s %016llx\n", parts[i].name, (unsigned long long)parts[i].run());
        fflush(stdout);
    }
    return 0;
}
