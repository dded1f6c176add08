/*
 * What a GDB session needs of its VM. Everything here is called on the VM's control thread.
 *
 * "Held" is a state of the VM like paused: no vCPU runs and VM time stands still, until the
 * debugger lets it go.
 */
#ifndef SILL_VM_GDB_TARGET_H
#define SILL_VM_GDB_TARGET_H

#include "engine/engine.h"
#include "machine/pc.h"

#define GDB_STOP_CRASHED (ENGINE_STEPPED - 1) /* a triple fault */

struct gdb_target {
    void *opaque;
    const struct engine_ops *engine;
    struct memory *memory;
    unsigned cpus;

    /* For the engine's calls on stopped vCPUs, while held. */
    struct engine_vcpu *(*vcpu)(void *opaque, unsigned index);
    bool (*is_held)(void *opaque);
    /* Asks for the VM to be held; it is so some time later, or the VM ends. */
    void (*hold)(void *opaque);
    /* Ends the hold; vCPUs with `stay` do not run before the next call. */
    void (*go)(void *opaque, const bool stay[PC_MAX_CPUS]);
    /* Why vCPU `index` left the engine since the last go(): engine_exit.breakpoint, or
     * GDB_STOP_CRASHED. False: it was only told to. */
    bool (*stop_of)(void *opaque, unsigned index, int *reason);
    void (*reset)(void *opaque);
    void (*quit)(void *opaque);
};

#endif
