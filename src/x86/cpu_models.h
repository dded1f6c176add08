/*
 * The CPU features Sill knows, and which of them a model has. Used by cpuid.c only.
 */
#ifndef SILL_X86_CPU_MODELS_H
#define SILL_X86_CPU_MODELS_H

#include "base/types.h"

/* The CPUID output registers that hold feature bits. */
enum cpu_word {
    CPU_1_ECX,
    CPU_1_EDX,
    CPU_7_EBX,
    CPU_7_ECX,
    CPU_7_EDX,
    CPU_7_1_EAX,
    CPU_D_1_EAX,
    CPU_80000001_ECX,
    CPU_80000001_EDX,
    CPU_80000007_EDX,
    CPU_80000008_EBX,
    CPU_80000021_EAX,
    CPU_80000021_ECX,
    CPU_WORD_COUNT
};

enum cpu_register { CPU_EAX, CPU_EBX, CPU_ECX, CPU_EDX };

struct cpu_word_place {
    uint32_t leaf, subleaf;
    enum cpu_register reg;
};

extern const struct cpu_word_place cpu_word_place[CPU_WORD_COUNT];

/* Which models show a feature. A named model has all of its level and below, or is refused. */
enum cpu_level {
    CPU_LEVEL_V2,
    CPU_LEVEL_V3,
    CPU_LEVEL_HOST,     /* "host" only, where the engine has it */
    CPU_LEVEL_WEAKNESS, /* every model, where the engine has it: controls of speculation are facts
                           of the machine, and hiding them would leave the guest defenceless */
};

struct cpu_feature {
    enum cpu_word word;
    unsigned bit;
    enum cpu_level level;
    const char *name; /* as Linux's /proc/cpuinfo has it */
};

/* Ends with a NULL name. */
extern const struct cpu_feature cpu_features[];

#endif
