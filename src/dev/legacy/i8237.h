/*
 * The two 8237A DMA controllers of an AT with their page registers. Intel 8237A data sheet; IBM
 * PC/AT Technical Reference, "DMA"; ICH9 data sheet 13.2.
 *
 *     ports 0x00-0x0f   channels 0 to 3, bytes
 *           0xc0-0xdf   channels 4 to 7, words; channel 4 is the cascade
 *           0x81-0x8f   address bits 16 to 23 of each channel
 *
 * A device moves its data with i8237_transfer() when it would have held its DRQ line, in blocks as
 * large as it likes; what the guest programmed for its channel says where they go and when the
 * count is reached. Memory to memory transfers, which no PC wires up, do nothing.
 */
#ifndef SILL_DEV_LEGACY_I8237_H
#define SILL_DEV_LEGACY_I8237_H

#include "bus/bus.h"
#include "dev/device.h"
#include "mem/memory.h"

#define I8237_CHANNELS 8

struct i8237;

/* -ENOMEM. */
SILL_CHECKED int i8237_new(struct i8237 **out, struct memory *memory);
SILL_CHECKED int i8237_attach(struct i8237 *dma, struct bus *bus, struct error *err);
struct device *i8237_device(struct i8237 *dma);

/*
 * Moves up to `length` bytes between `data` and memory; `to_memory` is the device's direction.
 * Returns how many were moved: fewer when the count is reached first (`*terminal_count` then), none
 * while the channel is masked, switched off or programmed for the other direction. A verify
 * transfer moves all and changes no memory. Addresses without memory swallow writes and read as
 * ones. Any thread.
 */
size_t i8237_transfer(struct i8237 *dma, unsigned channel, uint8_t *data, size_t length,
                      bool to_memory, bool *terminal_count);

#endif
