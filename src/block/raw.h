/* Raw disk images: the file's bytes are the disk's. */
#ifndef SILL_BLOCK_RAW_H
#define SILL_BLOCK_RAW_H

#include "block/block.h"

/* As block_open(). */
SILL_CHECKED int raw_open(struct block_device **out, const struct block_options *options,
                          struct error *err);

#endif
