/*
 * Fuzzes the look at boot media: the input is a disk and a disc, whose sectors repeat to fill a
 * medium of 64 KiB, so that short inputs have something where a boot catalog is looked for. Reads
 * must stay within the medium.
 */
#include <stdlib.h>

#include "boot/media.h"
#include "fuzz.h"

#define MEDIUM_SIZE (64 * KIB)

struct input {
    const uint8_t *data;
    size_t size;
};

static int read_input(void *opaque, uint64_t offset, void *to, size_t length)
{
    const struct input *input = opaque;

    if (offset > MEDIUM_SIZE || length > MEDIUM_SIZE - offset)
        abort();
    for (size_t i = 0; i < length; i++)
        ((uint8_t *)to)[i] = input->data[(offset + i) % input->size];
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input input = {data, size};
    const struct media_reader medium = {read_input, &input, MEDIUM_SIZE};

    if (!size)
        return 0;
    (void)media_kind(&medium);
    (void)media_disk(&medium);
    (void)media_disc(&medium);
    return 0;
}
