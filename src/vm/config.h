/*
 * How a VM's configuration is written: sizes and devices, as the command line and, later, stored
 * configurations spell them. Every refusal is a sentence that names the value and what would do.
 */
#ifndef SILL_VM_CONFIG_H
#define SILL_VM_CONFIG_H

#include "base/error.h"
#include "vm/vm.h"

/* "512M", "2G", "1.5G" is not one: digits and one of K, M, G or T, in powers of 1024; a plain
 * number is bytes. -EINVAL; -ERANGE beyond 64 bits. */
SILL_CHECKED int config_parse_size(uint64_t *bytes, const char *text, struct error *err);

/*
 * "NAME[,key=value]...", see config_device_help(). A comma in a value is written twice. `text` is
 * changed, and `device` points into it afterwards.
 */
SILL_CHECKED int config_parse_device(struct vm_device *device, char *text, struct error *err);

/* One device for each index from 0 on: how it is written and what it is. False beyond the last. */
bool config_device_help(unsigned index, const char **usage, const char **what);

/* Adds what nobody asks for and everybody wants: a tablet where there is a viewer with a pointer,
 * which a mouse follows only by counting, and firmware, so that any system may be behind it. */
void config_add_defaults(struct vm_config *config);

/* Looks for things that cannot go together: two users of the terminal, two devices at one port. */
SILL_CHECKED int config_check(const struct vm_config *config, struct error *err);

#endif
