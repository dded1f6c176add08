/* What the fuzz targets share. */
#ifndef SILL_TESTS_FUZZ_H
#define SILL_TESTS_FUZZ_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Ends the run, and says why, where something does not hold. */
#define must(truth) ((truth) ? (void)0 : must_hold(#truth))

static inline void must_hold(const char *what)
{
    fprintf(stderr, "does not hold: %s\n", what);
    abort();
}

/* A step of inputs that are lists of a guest's accesses. */
struct guest_access {
    uint8_t kind; /* the target's own kinds and, above, log2 of the size in two bits */
    uint8_t where;
    uint16_t more;
    uint32_t value;
};

#define ACCESS_SIZE(access) (1u << ((access)->kind >> 4 & 3))

#endif
