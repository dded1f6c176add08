/* Workloads: control flow. Interpreter loops, recursion, calls through pointers. */
#include "workload.h"

/* A register machine, run by the classical loop around a switch. */
enum opcode {
    OP_SET,
    OP_ADD,
    OP_MULTIPLY,
    OP_HALVE,
    OP_JUMP_ODD,
    OP_JUMP_NOT_ONE,
    OP_JUMP,
    OP_END
};

struct instruction {
    uint8_t opcode, a, b;
    int16_t value;
};

/* Counts the steps that the Collatz sequence from r0 takes to reach 1, in r1. */
static const struct instruction collatz[] = {
    {OP_SET, 1, 0, 0},      {OP_SET, 2, 0, 1},           {OP_SET, 3, 0, 3}, /* 0..2 */
    {OP_JUMP_ODD, 0, 0, 3},                                                 /* 3: odd -> 6 */
    {OP_HALVE, 0, 0, 0},    {OP_JUMP, 0, 0, 3},                             /* 4, 5: -> 8 */
    {OP_MULTIPLY, 0, 3, 0}, {OP_ADD, 0, 2, 0},                              /* 6, 7 */
    {OP_ADD, 1, 2, 0},      {OP_JUMP_NOT_ONE, 0, 0, -6},                    /* 8, 9: -> 3 */
    {OP_END, 0, 0, 0},
};

static uint64_t interpret(const struct instruction *program, uint64_t start)
{
    uint64_t r[4] = {start};

    for (const struct instruction *i = program;; i++) {
        switch ((enum opcode)i->opcode) {
        case OP_SET:
            r[i->a] = (uint64_t)i->value;
            break;
        case OP_ADD:
            r[i->a] += r[i->b];
            break;
        case OP_MULTIPLY:
            r[i->a] *= r[i->b];
            break;
        case OP_HALVE:
            r[i->a] >>= 1;
            break;
        case OP_JUMP_ODD:
            if (r[i->a] & 1)
                i += i->value - 1;
            break;
        case OP_JUMP_NOT_ONE:
            if (r[i->a] != 1)
                i += i->value - 1;
            break;
        case OP_JUMP:
            i += i->value - 1;
            break;
        case OP_END:
            return r[1];
        }
    }
}

static uint64_t interpreter_run(void)
{
    uint64_t sum = 0;

    for (uint64_t n = 1; n <= 1000; n++)
        sum = mix(sum, interpret(collatz, n));
    return sum;
}

__attribute__((noinline, noclone)) static uint64_t fibonacci(unsigned n)
{
    /* The barrier keeps the compiler from turning the recursion into loops. */
    asm volatile("" : "+r"(n));
    return n < 2 ? n : fibonacci(n - 1) + fibonacci(n - 2);
}

static uint64_t calls_run(void)
{
    return fibonacci(25);
}

#define TARGET(n, expression)                                                                      \
    __attribute__((noinline)) static uint64_t target_##n(uint64_t x)                               \
    {                                                                                              \
        return expression;                                                                         \
    }
TARGET(0, x + 1)
TARGET(1, x ^ x >> 3)
TARGET(2, x * 5)
TARGET(3, x - (x << 7))
TARGET(4, ~x)
TARGET(5, x + (x >> 11))
TARGET(6, x ^ 0x55aa)
TARGET(7, x * 0x9e3779b97f4a7c15ull)

static uint64_t (*const volatile targets[8])(uint64_t) = {
    target_0, target_1, target_2, target_3, target_4, target_5, target_6, target_7,
};

/* Calls through a table by a value that the predictor cannot know. */
static uint64_t indirect_run(void)
{
    uint64_t x = 1;

    for (int i = 0; i < 150000; i++)
        x = targets[x >> 9 & 7](x) + (uint64_t)i;
    return x;
}

/* One call site, one target: what a virtual method call mostly is. */
static uint64_t virtual_run(void)
{
    uint64_t x = 1;

    for (int i = 0; i < 600000; i++)
        x = targets[7](x) + (uint64_t)i;
    return x;
}

const struct workload control_workloads[] = {
    {"interpreter", "control", interpreter_run, NULL, NULL},
    {"calls", "control", calls_run, NULL, NULL},
    {"indirect", "control", indirect_run, NULL, NULL},
    {"virtual", "control", virtual_run, NULL, NULL},
    {0},
};
