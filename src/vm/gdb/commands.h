/* What the files of a session share: session.c (run control), points.c (breakpoints), inspect.c
 * (registers, memory, queries). On the VM's control thread. */
#ifndef SILL_VM_GDB_COMMANDS_H
#define SILL_VM_GDB_COMMANDS_H

#include "vm/gdb/session.h"

/* Numbers of error replies; GDB only shows them. */
enum { GDB_ERROR_SYNTAX = 1, GDB_ERROR_MEMORY = 14, GDB_ERROR_REFUSED = 22, GDB_ERROR_FULL = 28 };

/* The reply to the packet at hand; one that stays empty means "not known". */
struct gdb_writer *gdb_reply(struct gdb_session *s);
void gdb_reply_error(struct gdb_session *s, int number);

/* points.c */
void gdb_command_point(struct gdb_session *s, bool insert, const char *at); /* Z, z */
/* Takes all breakpoints, and steps, from the vCPUs. */
void gdb_points_clear(struct gdb_session *s);
bool gdb_point_find(const struct gdb_session *s, enum gdb_point_type type, gva_t address);
bool gdb_point_is_watch(enum gdb_point_type type);

/* inspect.c */
void gdb_command_inspect(struct gdb_session *s, const char *data, size_t length);
/* Chooses the description that suits the guest's mode now. */
void gdb_describe_registers(struct gdb_session *s);
/* Fills s->cpu with the state of the chosen thread, unless it has it already. */
bool gdb_load(struct gdb_session *s);

#endif
