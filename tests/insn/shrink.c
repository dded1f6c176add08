/*
 * Makes a case that differs small enough to be understood: one instruction after another of a
 * sequence becomes a NOP, one input after another zero, and each time that the sides still differ
 * it stays so.
 */
#include <string.h>

#include "insn.h"

static void drop_instructions(struct failure *f, differs_fn *differs, void *opaque)
{
    for (unsigned i = 0; f->sequence && i < f->sequence->count; i++) {
        struct sequence before = *f->sequence;

        if (sequence_drop(f->sequence, i) && !differs(opaque, f))
            *f->sequence = before;
    }
}

/* Gives `size` bytes of the inputs the value of `simple`. */
static void simplify(struct failure *f, void *input, const void *simple, size_t size,
                     differs_fn *differs, void *opaque)
{
    uint8_t before[MEMORY_BYTES];

    if (memcmp(input, simple, size) == 0)
        return;
    memcpy(before, input, size);
    memcpy(input, simple, size);
    if (!differs(opaque, f))
        memcpy(input, before, size);
}

static void clear_each(struct failure *f, uint8_t *input, size_t size, size_t step,
                       differs_fn *differs, void *opaque)
{
    static const uint8_t zeros[MEMORY_BYTES];

    simplify(f, input, zeros, size, differs, opaque);
    for (size_t at = 0; at < size; at += step)
        simplify(f, input + at, zeros, step, differs, opaque);
}

/* Clears the bits of a number one by one, from the top. */
static void clear_bits(struct failure *f, uint64_t *input, uint64_t keep, differs_fn *differs,
                       void *opaque)
{
    for (unsigned bit = 64; bit-- > 0;) {
        uint64_t simple = *input & ~(1ull << bit);

        if (!(keep >> bit & 1))
            simplify(f, input, &simple, 8, differs, opaque);
    }
}

void shrink(struct failure *f, differs_fn *differs, void *opaque)
{
    static const uint16_t fcw = 0x037f;
    static const uint32_t mxcsr = 0x1f80;
    static const uint8_t ftw = 0xff;
    struct insn_state *in = &f->inputs.in;

    drop_instructions(f, differs, opaque);
    clear_each(f, in->memory, MEMORY_BYTES, 16, differs, opaque);
    clear_each(f, in->xsave + 576, 256, 16, differs, opaque); /* YMM, high halves */
    clear_each(f, in->xsave + 160, 256, 16, differs, opaque); /* XMM */
    clear_each(f, in->xsave + 32, 128, 16, differs, opaque);  /* x87 */
    simplify(f, in->xsave, &fcw, 2, differs, opaque);
    clear_each(f, in->xsave + 2, 2, 2, differs, opaque); /* FSW */
    simplify(f, in->xsave + 4, &ftw, 1, differs, opaque);
    clear_each(f, in->xsave + 6, 18, 2, differs, opaque); /* FOP, FIP, FDP */
    simplify(f, in->xsave + 24, &mxcsr, 4, differs, opaque);
    for (unsigned i = 0; i < X86_GPR_COUNT; i++) {
        clear_each(f, (uint8_t *)&in->gpr[i], 8, 8, differs, opaque);
        clear_bits(f, &in->gpr[i], 0, differs, opaque);
    }
    clear_bits(f, &in->rflags, 0x202, differs, opaque);
}
