/* A GDB session's VM for tests: two vCPUs that are only their states, and 1 MiB of memory. */
#ifndef SILL_TESTS_UNIT_GDB_RIG_H
#define SILL_TESTS_UNIT_GDB_RIG_H

#include <errno.h>
#include <string.h>

#include "vm/gdb/session.h"
#include "x86/arch.h"

#define RIG_CPUS 2
#define RIG_MEMORY MIB
#define RIG_POINTS 4 /* breakpoints of the engine */

struct engine_vcpu {
    struct x86_vcpu_state state;
    struct engine_debug debug;
    bool has_stop;
    int stop;
    bool stays;
};

struct gdb_rig {
    struct engine_vcpu vcpu[RIG_CPUS];
    struct memory memory;
    struct gdb_target target;
    struct gdb_session session;
    bool held;
    unsigned holds, goes, resets, quits;
};

static int rig_get_state(struct engine_vcpu *vcpu, struct x86_vcpu_state *state, unsigned mask)
{
    *state = vcpu->state;
    return 0;
}

static int rig_set_state(struct engine_vcpu *vcpu, const struct x86_vcpu_state *state,
                         unsigned mask)
{
    vcpu->state = *state;
    return 0;
}

static int rig_set_debug(struct engine_vcpu *vcpu, const struct engine_debug *debug)
{
    if (debug->count > RIG_POINTS)
        return -ENOSPC;
    vcpu->debug = *debug;
    return 0;
}

static const struct engine_ops rig_engine = {
    .name = "rig",
    .get_state = rig_get_state,
    .set_state = rig_set_state,
    .set_debug = rig_set_debug,
};

static struct engine_vcpu *rig_vcpu(void *opaque, unsigned index)
{
    return &((struct gdb_rig *)opaque)->vcpu[index];
}

static bool rig_is_held(void *opaque)
{
    return ((struct gdb_rig *)opaque)->held;
}

static void rig_hold(void *opaque)
{
    ((struct gdb_rig *)opaque)->holds++;
}

static void rig_go(void *opaque, const bool stay[PC_MAX_CPUS])
{
    struct gdb_rig *rig = opaque;

    rig->goes++;
    rig->held = false;
    for (unsigned i = 0; i < RIG_CPUS; i++) {
        rig->vcpu[i].stays = stay[i];
        rig->vcpu[i].has_stop = false;
    }
}

static bool rig_stop_of(void *opaque, unsigned index, int *breakpoint)
{
    const struct engine_vcpu *vcpu = rig_vcpu(opaque, index);

    *breakpoint = vcpu->stop;
    return vcpu->has_stop;
}

static void rig_reset(void *opaque)
{
    ((struct gdb_rig *)opaque)->resets++;
}

static void rig_quit(void *opaque)
{
    ((struct gdb_rig *)opaque)->quits++;
}

/* The client has come and the VM is held. 0 or negative errno. */
static inline int rig_init(struct gdb_rig *rig, enum gdb_arch arch)
{
    memset(rig, 0, sizeof(*rig));
    for (unsigned i = 0; i < RIG_CPUS; i++)
        x86_vcpu_state_reset(&rig->vcpu[i].state, i == 0, i);
    memory_init(&rig->memory, 0);
    rig->target = (struct gdb_target){
        .opaque = rig,
        .engine = &rig_engine,
        .memory = &rig->memory,
        .cpus = RIG_CPUS,
        .vcpu = rig_vcpu,
        .is_held = rig_is_held,
        .hold = rig_hold,
        .go = rig_go,
        .stop_of = rig_stop_of,
        .reset = rig_reset,
        .quit = rig_quit,
    };
    gdb_session_begin(&rig->session, &rig->target, arch);
    rig->held = true;
    gdb_session_held(&rig->session);
    return memory_add(&rig->memory, 0, RIG_MEMORY, 0, "ram", NULL);
}

static inline void rig_done(struct gdb_rig *rig)
{
    memory_done(&rig->memory);
}

#endif
