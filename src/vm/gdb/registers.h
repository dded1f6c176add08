/*
 * A vCPU's registers as GDB names and numbers them, and the XML that tells it so (GDB manual,
 * "Target Descriptions" and "i386 Features"). One list drives the description and both directions.
 *
 * There are two descriptions, since GDB decodes instructions and walks stacks by it: one of a
 * 64-bit processor, one of a 32-bit one, for guests in 32-bit and 16-bit modes.
 */
#ifndef SILL_VM_GDB_REGISTERS_H
#define SILL_VM_GDB_REGISTERS_H

#include "x86/vcpu_state.h"

#define GDB_MAX_REGISTERS 112
#define GDB_REGISTER_BYTES 16 /* the largest */

struct gdb_register {
    const struct gdb_register_class *class;
    uint8_t index; /* in the class */
};

struct gdb_registers {
    unsigned count;
    struct gdb_register reg[GDB_MAX_REGISTERS]; /* by GDB's number */
    size_t xml_length;
    char xml[24576];
};

void gdb_registers_init(struct gdb_registers *r, bool long_mode);

/* Bytes that the register takes in a packet. */
unsigned gdb_register_size(const struct gdb_register *reg);
void gdb_register_get(const struct gdb_register *reg, const struct x86_vcpu_state *state,
                      uint8_t bytes[GDB_REGISTER_BYTES]);
/* Changes `state`, and gives the group (enum x86_state_mask) to be set; 0 if the register cannot
 * be written, or not with this. */
unsigned gdb_register_set(const struct gdb_register *reg, struct x86_vcpu_state *state,
                          const uint8_t bytes[GDB_REGISTER_BYTES]);

#endif
