/*
 * One virtual machine: its board, its consoles, one thread for each vCPU, and the control thread
 * that serialises whatever is asked of it.
 *
 *     any thread, signal handler            control thread: vm_run()
 *     --------------------------            ------------------------------------------
 *     vm_request(PAUSE) --+
 *     guest: port 0xcf9 --+--> requests --> stop vCPUs, look the request up in the
 *     guest: ACPI S5    --+    (bits,       table of states, act, let vCPUs go on
 *     vCPU: triple fault -+    eventfd)
 *
 * A vCPU does not run on while a request waits: what the guest does after it asked for its own
 * reset or end is nothing.
 */
#ifndef SILL_VM_VM_H
#define SILL_VM_VM_H

#include "base/error.h"
#include "machine/pc.h"
#include "vm/console.h"
#include "vm/gdb/server.h"
#include "vm/vnc/options.h"

enum vm_state {
    VM_CREATED, /* built, kernel loaded; no vCPU has run */
    VM_RUNNING,
    VM_PAUSED,
    VM_HELD, /* like paused, by the debugger */
    VM_ENDED,
    VM_STATE_COUNT
};

/* In the order in which they are served when several wait. */
enum vm_request {
    VM_REQUEST_FAIL,      /* the engine cannot go on */
    VM_REQUEST_EXIT,      /* debug-exit */
    VM_REQUEST_CRASH,     /* triple fault or panic device */
    VM_REQUEST_POWER_OFF, /* the guest powers off */
    VM_REQUEST_QUIT,      /* the user ends the run */
    VM_REQUEST_RESET,
    VM_REQUEST_REARRANGE, /* pc_rearrange() */
    VM_REQUEST_START,
    VM_REQUEST_PAUSE,
    VM_REQUEST_RESUME,
    VM_REQUEST_LET_GO, /* the debugger holds the VM no longer */
    VM_REQUEST_HOLD,   /* the debugger wants it to stand still, or a vCPU met a breakpoint */
    VM_REQUEST_STATS,  /* write vm_config.stats now; it is also written at the end */
    VM_REQUEST_COUNT
};

/* Exit statuses of a run; debug-exit has its own, (value << 1) | 1. */
enum vm_status {
    VM_STATUS_OK = 0, /* the guest powered off, or the user quit */
    VM_STATUS_ERROR = 1,
    VM_STATUS_CRASHED =
        2, /* panic device; a reset with no_reboot; triple fault after direct boot */
};

/* A device that is there only when asked for, and where its characters go. */
struct vm_device {
    struct pc_extra extra; /* the VM fills in `backend` */
    struct console_target console;
};

/* Everything it points to outlives the VM. */
struct vm_config {
    struct pc_config board; /* the VM fills in serial, extras and events */
    struct console_target console;
    struct vm_device devices[PC_MAX_EXTRAS];
    unsigned device_count;
    bool no_reboot; /* a reset ends the run with VM_STATUS_CRASHED */
    struct gdb_options gdb;
    struct vnc_options vnc;
    const char *control; /* path of the control socket, control/server.h; NULL */
    const char *stats;   /* file for what the engine counted, stats_file.h; NULL */
};

struct vm;

/* Builds the VM up to the point where its vCPUs could start. Everything that can be wrong with the
 * configuration or its files is found here. */
SILL_CHECKED int vm_new(struct vm **out, const struct vm_config *config, struct error *err);
/* Not while vm_run() is inside. NULL is fine. */
void vm_free(struct vm *vm);

/*
 * Runs the VM, from VM_CREATED until it ends, on the calling thread, which is its control thread.
 * Returns the exit status; VM_STATUS_ERROR with a sentence in `err`.
 */
SILL_CHECKED int vm_run(struct vm *vm, struct error *err);

/* Asks for something; one that is not legal in the VM's state by then is ignored. A pause takes
 * back a resume that still waits, and the reverse. Any thread, async-signal-safe. */
void vm_request(struct vm *vm, enum vm_request request);

enum vm_state vm_get_state(struct vm *vm); /* any thread */

/* For whoever serves the VM's control requests on its control thread. */
struct pc *vm_get_board(struct vm *vm);
const struct vm_config *vm_get_config(struct vm *vm);
/* Some wait that the control thread has not served yet. */
bool vm_has_requests(struct vm *vm);
/* pc_plug() and pc_unplug() in whatever state the VM is. Control thread. */
SILL_CHECKED int vm_plug(struct vm *vm, const struct pc_plug *plug, const char **name,
                         struct error *err);
SILL_CHECKED int vm_unplug(struct vm *vm, const char *name, bool force, struct error *err);

/* What to type behind GDB's `target remote`; NULL without vm_config.gdb. */
const char *vm_gdb_address(struct vm *vm);

/* The user's terminal has another size. Any thread, async-signal-safe. */
void vm_terminal_resized(struct vm *vm);

#endif
