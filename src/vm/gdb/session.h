/*
 * One client of the GDB stub: what its packets mean (GDB manual, "GDB Remote Serial Protocol").
 * All-stop mode; a vCPU is a thread, numbered from 1 on. Addresses are linear ones of the thread's
 * address space. No I/O: the server calls, on the VM's control thread, and sends what is in
 * `reply`.
 *
 *     ARRIVING --held--> STOPPED <--held, stop reply-- RUNNING
 *                          |  \---- vCont, c, s ---------^
 *                          | D, or the connection is lost (from any state, by way of held)
 *                          v
 *                         GONE
 */
#ifndef SILL_VM_GDB_SESSION_H
#define SILL_VM_GDB_SESSION_H

#include "vm/gdb/packet.h"
#include "vm/gdb/registers.h"
#include "vm/gdb/target.h"

enum gdb_arch { GDB_ARCH_AUTO, GDB_ARCH_I386, GDB_ARCH_X86_64 };

/* Z0 to Z4. */
enum gdb_point_type {
    GDB_SOFTWARE_BREAK,
    GDB_HARDWARE_BREAK,
    GDB_WATCH_WRITE,
    GDB_WATCH_READ,
    GDB_WATCH_ACCESS,
    GDB_POINT_TYPES
};

struct gdb_stop {
    unsigned vcpu;
    bool crashed;
    bool by_point;
    enum gdb_point_type type; /* by_point */
    gva_t address;
};

struct gdb_session {
    const struct gdb_target *target;
    enum gdb_arch arch;
    enum { GDB_ARRIVING, GDB_STOPPED, GDB_RUNNING, GDB_LEAVING, GDB_GONE } state;
    bool has_reply;
    bool no_acks; /* QStartNoAckMode; from the packet after its own reply on */
    struct gdb_writer reply;

    bool knows_swbreak, knows_hwbreak;
    bool interrupted; /* the client asked for the stop */
    unsigned thread;  /* vCPU that registers and memory are of */
    struct gdb_stop stop;
    uint64_t stop_rip; /* of its vCPU */
    /* Data breakpoints that other vCPUs hit in the same moment: told when the client goes on. */
    struct gdb_stop later[PC_MAX_CPUS];
    unsigned later_count;

    struct engine_debug debug;
    enum gdb_point_type type[ENGINE_MAX_BREAKPOINTS]; /* of each breakpoint in `debug` */

    struct gdb_registers registers;
    bool loaded; /* `cpu` is the state of vCPU `thread` */
    struct x86_vcpu_state cpu;
};

/* A client has come: the VM is to be held. */
void gdb_session_begin(struct gdb_session *s, const struct gdb_target *target, enum gdb_arch arch);
/* It sent a packet (STOPPED). */
void gdb_session_packet(struct gdb_session *s, const char *data, size_t length);
/* It sent the interrupt byte. */
void gdb_session_interrupt(struct gdb_session *s);
/* The VM is held now. */
void gdb_session_held(struct gdb_session *s);
/* It is lost; the guest goes on without breakpoints. GDB_GONE comes later. */
void gdb_session_lost(struct gdb_session *s);
/* The VM ended with this exit status. */
void gdb_session_vm_ended(struct gdb_session *s, int status);

#endif
