/*
 * The life of one VM: vCPU threads and the control thread; see vm.h for the picture.
 *
 * vCPU threads exist from vm_new() on and wait at a gate. To stop them the control thread closes
 * the gate, kicks each vCPU out of the engine and waits until the last has come back.
 *
 * Locks: `lock` is held for a moment only, and no other lock is taken inside it.
 */
#include "vm/vm.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/log.h"
#include "vm/control/server.h"
#include "vm/stats_file.h"
#include "vm/vnc/server.h"

struct vm_vcpu {
    struct vm *vm;
    unsigned index;
    pthread_t thread;
    /* Under the VM's lock. */
    bool stay;       /* the debugger lets others run, but not this one */
    bool has_stop;   /* left the engine for a reason that interests a debugger: */
    int stop_reason; /* see gdb_target.stop_of() */
};

struct vm {
    struct vm_config config;
    struct pc *pc;
    struct console *console;
    struct console *device_console[PC_MAX_EXTRAS];
    struct pc_extra extras[PC_MAX_EXTRAS];

    _Atomic unsigned requests; /* a bit for each vm_request */
    int wake;                  /* eventfd: there are some */
    _Atomic int exit_status;   /* of VM_REQUEST_EXIT */
    _Atomic enum vm_state state;
    int status;             /* what vm_run() will return; control thread */
    struct gdb_server *gdb; /* NULL: none; control thread */
    struct gdb_target gdb_target;
    struct vnc_server *vnc;         /* NULL: none */
    struct control_server *control; /* NULL: none; control thread */
    int stats;                      /* descriptor of config.stats, or -1 */

    pthread_mutex_t lock; /* all below */
    pthread_cond_t gate_moved;
    pthread_cond_t all_stopped;
    bool gate_open;
    bool quit;            /* vCPU threads end */
    unsigned running;     /* vCPU threads past the gate */
    struct error failure; /* of the first vCPU that failed */
    struct vm_vcpu vcpu[PC_MAX_CPUS];
    unsigned vcpu_threads;
};

/* ---- requests ---- */

void vm_request(struct vm *vm, enum vm_request request)
{
    static const unsigned takes_back[VM_REQUEST_COUNT] = {
        [VM_REQUEST_PAUSE] = 1u << VM_REQUEST_RESUME,
        [VM_REQUEST_RESUME] = 1u << VM_REQUEST_PAUSE,
    };
    uint64_t one = 1;
    int saved = errno;
    unsigned now = atomic_load(&vm->requests);

    while (!atomic_compare_exchange_weak(&vm->requests, &now,
                                         (now & ~takes_back[request]) | 1u << request)) {
    }
    /* Fails only when the counter is full, and then the control thread is awake anyway. */
    ssize_t written = write(vm->wake, &one, sizeof(one));
    (void)written;
    errno = saved;
}

enum vm_state vm_get_state(struct vm *vm)
{
    return atomic_load(&vm->state);
}

struct pc *vm_get_board(struct vm *vm)
{
    return vm->pc;
}

const struct vm_config *vm_get_config(struct vm *vm)
{
    return &vm->config;
}

bool vm_has_requests(struct vm *vm)
{
    return atomic_load(&vm->requests);
}

/* From a vCPU thread: the guest's doing. The vCPUs leave the engine at once, to wait at the gate.
 */
static void guest_request(struct vm *vm, enum vm_request request)
{
    vm_request(vm, request);
    for (unsigned i = 0; i < vm->config.board.cpus; i++)
        vm->config.board.engine->kick(pc_vcpu(vm->pc, i));
}

static void guest_reset(void *opaque)
{
    guest_request(opaque, VM_REQUEST_RESET);
}

static void guest_power_off(void *opaque)
{
    guest_request(opaque, VM_REQUEST_POWER_OFF);
}

static void guest_crashed(void *opaque)
{
    guest_request(opaque, VM_REQUEST_CRASH);
}

static void guest_rearrange(void *opaque)
{
    guest_request(opaque, VM_REQUEST_REARRANGE);
}

static void guest_exit(void *opaque, int status)
{
    struct vm *vm = opaque;
    atomic_store(&vm->exit_status, status);
    guest_request(vm, VM_REQUEST_EXIT);
}

static void user_leaves(void *opaque)
{
    vm_request(opaque, VM_REQUEST_QUIT);
}

/* ---- vCPU threads ---- */

/* Returns false when the thread is to end. */
static bool wait_at_gate(struct vm *vm, const struct vm_vcpu *vcpu)
{
    pthread_mutex_lock(&vm->lock);
    while (!vm->quit && (!vm->gate_open || vcpu->stay || atomic_load(&vm->requests)))
        pthread_cond_wait(&vm->gate_moved, &vm->lock);
    bool go = !vm->quit;
    if (go)
        vm->running++;
    pthread_mutex_unlock(&vm->lock);
    return go;
}

static void back_from_engine(struct vm *vm)
{
    pthread_mutex_lock(&vm->lock);
    if (--vm->running == 0)
        pthread_cond_signal(&vm->all_stopped);
    pthread_mutex_unlock(&vm->lock);
}

static void vcpu_failed(struct vm *vm, const struct vm_vcpu *vcpu, const struct error *error)
{
    pthread_mutex_lock(&vm->lock);
    if (!vm->failure.text[0]) {
        vm->failure = *error;
        error_prefix(&vm->failure, 0, "vCPU %u", vcpu->index);
    }
    pthread_mutex_unlock(&vm->lock);
    vm_request(vm, VM_REQUEST_FAIL);
}

static void vcpu_stopped(struct vm *vm, struct vm_vcpu *vcpu, int reason, enum vm_request request)
{
    pthread_mutex_lock(&vm->lock);
    vcpu->has_stop = true;
    vcpu->stop_reason = reason;
    pthread_mutex_unlock(&vm->lock);
    vm_request(vm, request);
}

static void *vcpu_thread(void *opaque)
{
    struct vm_vcpu *vcpu = opaque;
    struct vm *vm = vcpu->vm;
    struct engine_exit exit;
    char name[16];

    snprintf(name, sizeof(name), "vcpu%u", vcpu->index);
    pthread_setname_np(pthread_self(), name);
    while (wait_at_gate(vm, vcpu)) {
        vm->config.board.engine->run(pc_vcpu(vm->pc, vcpu->index), &exit);
        switch (exit.kind) {
        case ENGINE_EXIT_KICKED:
        case ENGINE_EXIT_HALTED:
            break;
        case ENGINE_EXIT_DEBUG:
            vcpu_stopped(vm, vcpu, exit.breakpoint, VM_REQUEST_HOLD);
            break;
        case ENGINE_EXIT_SHUTDOWN:
            vcpu_stopped(vm, vcpu, GDB_STOP_CRASHED, VM_REQUEST_CRASH);
            break;
        case ENGINE_EXIT_FAILED:
            vcpu_failed(vm, vcpu, &exit.error);
            break;
        }
        back_from_engine(vm);
    }
    return NULL;
}

static void vcpus_stop(struct vm *vm)
{
    pthread_mutex_lock(&vm->lock);
    vm->gate_open = false;
    pthread_mutex_unlock(&vm->lock);
    for (unsigned i = 0; i < vm->vcpu_threads; i++)
        vm->config.board.engine->kick(pc_vcpu(vm->pc, i));
    pthread_mutex_lock(&vm->lock);
    while (vm->running)
        pthread_cond_wait(&vm->all_stopped, &vm->lock);
    pthread_mutex_unlock(&vm->lock);
}

static void vcpus_go(struct vm *vm)
{
    pthread_mutex_lock(&vm->lock);
    vm->gate_open = true;
    pthread_cond_broadcast(&vm->gate_moved);
    pthread_mutex_unlock(&vm->lock);
}

static void vcpus_end(struct vm *vm)
{
    pthread_mutex_lock(&vm->lock);
    vm->quit = true;
    pthread_cond_broadcast(&vm->gate_moved);
    pthread_mutex_unlock(&vm->lock);
    for (; vm->vcpu_threads; vm->vcpu_threads--)
        pthread_join(vm->vcpu[vm->vcpu_threads - 1].thread, NULL);
}

/* ---- the control thread: vCPUs are stopped while these run ---- */

static int act_fail(struct vm *vm, struct error *err)
{
    pthread_mutex_lock(&vm->lock);
    if (err)
        *err = vm->failure;
    pthread_mutex_unlock(&vm->lock);
    return -EIO;
}

static int act_exit(struct vm *vm, struct error *err)
{
    vm->status = atomic_load(&vm->exit_status);
    return 0;
}

static int act_crash(struct vm *vm, struct error *err)
{
    vm->status = VM_STATUS_CRASHED;
    return 0;
}

static int act_end(struct vm *vm, struct error *err)
{
    vm->status = VM_STATUS_OK;
    return 0;
}

static int act_start(struct vm *vm, struct error *err)
{
    return pc_start(vm->pc, err);
}

static int act_pause(struct vm *vm, struct error *err)
{
    pc_pause(vm->pc);
    return 0;
}

static int act_resume(struct vm *vm, struct error *err)
{
    pc_resume(vm->pc);
    return 0;
}

static int act_reset_paused(struct vm *vm, struct error *err)
{
    for (unsigned i = 0; i < vm->config.board.cpus; i++)
        vm->vcpu[i].has_stop = false;
    return pc_reset(vm->pc, err);
}

static int act_reset(struct vm *vm, struct error *err)
{
    pc_pause(vm->pc);
    int result = act_reset_paused(vm, err);
    pc_resume(vm->pc);
    return result;
}

static int act_rearrange_paused(struct vm *vm, struct error *err)
{
    return pc_rearrange(vm->pc, err);
}

static int act_rearrange(struct vm *vm, struct error *err)
{
    pc_pause(vm->pc);
    int result = pc_rearrange(vm->pc, err);
    pc_resume(vm->pc);
    return result;
}

/* A file that cannot be written now is a reason to complain at the end, not to end. */
static int act_stats(struct vm *vm, struct error *err)
{
    struct error complaint;

    if (vm->stats >= 0 &&
        stats_file_write(vm->stats, vm->config.stats, vm->pc, &vm->config.board, &complaint))
        log_warn("%s", complaint.text);
    return 0;
}

/* What a request does in each state, and the state it leads to. No entry: it is ignored. */
static const struct transition {
    int (*act)(struct vm *vm, struct error *err);
    enum vm_state next;
} transitions[VM_STATE_COUNT][VM_REQUEST_COUNT] = {
    [VM_CREATED] =
        {
            [VM_REQUEST_QUIT] = {act_end, VM_ENDED},
            [VM_REQUEST_REARRANGE] = {act_rearrange_paused, VM_CREATED},
            [VM_REQUEST_START] = {act_start, VM_RUNNING},
        },
    [VM_RUNNING] =
        {
            [VM_REQUEST_FAIL] = {act_fail, VM_ENDED},
            [VM_REQUEST_EXIT] = {act_exit, VM_ENDED},
            [VM_REQUEST_CRASH] = {act_crash, VM_ENDED},
            [VM_REQUEST_POWER_OFF] = {act_end, VM_ENDED},
            [VM_REQUEST_QUIT] = {act_end, VM_ENDED},
            [VM_REQUEST_RESET] = {act_reset, VM_RUNNING},
            [VM_REQUEST_REARRANGE] = {act_rearrange, VM_RUNNING},
            [VM_REQUEST_PAUSE] = {act_pause, VM_PAUSED},
            [VM_REQUEST_HOLD] = {act_pause, VM_HELD},
            [VM_REQUEST_STATS] = {act_stats, VM_RUNNING},
        },
    [VM_PAUSED] =
        {
            [VM_REQUEST_FAIL] = {act_fail, VM_ENDED},
            [VM_REQUEST_EXIT] = {act_exit, VM_ENDED},
            [VM_REQUEST_CRASH] = {act_crash, VM_ENDED},
            [VM_REQUEST_POWER_OFF] = {act_end, VM_ENDED},
            [VM_REQUEST_QUIT] = {act_end, VM_ENDED},
            [VM_REQUEST_RESET] = {act_reset_paused, VM_PAUSED},
            [VM_REQUEST_REARRANGE] = {act_rearrange_paused, VM_PAUSED},
            [VM_REQUEST_RESUME] = {act_resume, VM_RUNNING},
            [VM_REQUEST_HOLD] = {act_pause, VM_HELD},
            [VM_REQUEST_STATS] = {act_stats, VM_PAUSED},
        },
    [VM_HELD] =
        {
            [VM_REQUEST_FAIL] = {act_fail, VM_ENDED},
            [VM_REQUEST_EXIT] = {act_exit, VM_ENDED},
            [VM_REQUEST_CRASH] = {act_crash, VM_ENDED},
            [VM_REQUEST_POWER_OFF] = {act_end, VM_ENDED},
            [VM_REQUEST_QUIT] = {act_end, VM_ENDED},
            [VM_REQUEST_RESET] = {act_reset_paused, VM_HELD},
            [VM_REQUEST_REARRANGE] = {act_rearrange_paused, VM_HELD},
            [VM_REQUEST_LET_GO] = {act_resume, VM_RUNNING},
            [VM_REQUEST_STATS] = {act_stats, VM_HELD},
        },
};

/* A panic device's crash is the guest's own word; this one is a triple fault. */
static bool has_faulted(const struct vm *vm)
{
    bool faulted = false;

    for (unsigned i = 0; i < vm->config.board.cpus; i++)
        faulted |= vm->vcpu[i].has_stop && vm->vcpu[i].stop_reason == GDB_STOP_CRASHED;
    return faulted;
}

/* What becomes of a triple fault. A debugger wants to see why, and gets the VM as the fault left
 * it. The chipset resets a machine that has firmware to start again with, and there are systems
 * that reboot in this way; a kernel that was booted directly has crashed. */
static enum vm_request after_fault(struct vm *vm)
{
    if (vm->gdb && gdb_server_in_use(vm->gdb))
        return VM_REQUEST_HOLD;
    return vm->config.board.firmware == PC_FIRMWARE_NONE ? VM_REQUEST_CRASH : VM_REQUEST_RESET;
}

static int serve_one(struct vm *vm, enum vm_request request, struct error *err)
{
    enum vm_state state = vm_get_state(vm);
    if (request == VM_REQUEST_CRASH && has_faulted(vm))
        request = after_fault(vm);
    /* With no_reboot a reset is an end like a crash. */
    if (request == VM_REQUEST_RESET && vm->config.no_reboot)
        request = VM_REQUEST_CRASH;
    const struct transition *transition = &transitions[state][request];
    if (!transition->act)
        return 0;
    int result = transition->act(vm, err);
    if (!result)
        atomic_store(&vm->state, transition->next);
    return result;
}

/* The requests stay set until the vCPUs are stopped: the gate looks at them. */
static int serve_requests(struct vm *vm, struct error *err)
{
    int result = 0;

    vcpus_stop(vm);
    unsigned requests = atomic_exchange(&vm->requests, 0);
    for (unsigned i = 0; i < VM_REQUEST_COUNT && !result; i++) {
        if (requests & 1u << i)
            result = serve_one(vm, i, err);
    }
    if (!result && vm_get_state(vm) == VM_RUNNING)
        vcpus_go(vm);
    return result;
}

/* Until a request, or a client of the debugger's or of the control socket, may have come.
 * Interrupted by a signal, whose handler may have asked for something: look again. */
static void wait_for_work(struct vm *vm)
{
    struct pollfd polls[1 + GDB_SERVER_POLLS + CONTROL_SERVER_POLLS] = {
        {.fd = vm->wake, .events = POLLIN}};
    nfds_t polled = 1;
    int timeout = -1;
    uint64_t count;

    if (vm->gdb) {
        gdb_server_poll(vm->gdb, polls + polled);
        polled += GDB_SERVER_POLLS;
    }
    if (vm->control) {
        control_server_poll(vm->control, polls + polled);
        polled += CONTROL_SERVER_POLLS;
        timeout = control_server_timeout(vm->control);
    }
    if (poll(polls, polled, timeout) > 0 && polls[0].revents) {
        ssize_t taken = read(vm->wake, &count, sizeof(count));
        (void)taken;
    }
}

static int start_consoles(struct vm *vm, struct error *err)
{
    int result = console_start(vm->console, err);
    for (unsigned i = 0; i < vm->config.device_count && !result; i++)
        result = console_start(vm->device_console[i], err);
    return result;
}

static void stop_consoles(struct vm *vm)
{
    console_stop(vm->console);
    for (unsigned i = 0; i < vm->config.device_count; i++)
        console_stop(vm->device_console[i]);
}

/* ---- devices come and go ---- */

/* Between these two nothing of the VM runs. */
static void hold_still(struct vm *vm)
{
    vcpus_stop(vm);
    pc_pause(vm->pc);
}

static void move_on(struct vm *vm)
{
    if (vm_get_state(vm) != VM_RUNNING)
        return;
    pc_resume(vm->pc);
    vcpus_go(vm);
}

int vm_plug(struct vm *vm, const struct pc_plug *plug, const char **name, struct error *err)
{
    hold_still(vm);
    int result = pc_plug(vm->pc, plug, name, err);
    move_on(vm);
    return result;
}

int vm_unplug(struct vm *vm, const char *name, bool force, struct error *err)
{
    hold_still(vm);
    int result = pc_unplug(vm->pc, name, force, err);
    move_on(vm);
    return result;
}

static void device_unplugged(void *opaque, const char *name)
{
    struct vm *vm = opaque;

    if (vm->control)
        control_server_device_removed(vm->control, name);
}

int vm_run(struct vm *vm, struct error *err)
{
    assert(vm_get_state(vm) == VM_CREATED);

    int result = start_consoles(vm, err);
    vm_request(vm, VM_REQUEST_START);
    if (vm->config.gdb.wait)
        vm_request(vm, VM_REQUEST_HOLD);
    while (!result && vm_get_state(vm) != VM_ENDED) {
        wait_for_work(vm);
        if (atomic_load(&vm->requests))
            result = serve_requests(vm, err);
        if (vm->gdb && !result && vm_get_state(vm) != VM_ENDED)
            gdb_server_work(vm->gdb);
        if (vm->control && !result && vm_get_state(vm) != VM_ENDED)
            control_server_work(vm->control);
    }
    if (vm->stats >= 0) {
        int written = stats_file_write(vm->stats, vm->config.stats, vm->pc, &vm->config.board,
                                       result ? NULL : err);
        result = result ? result : written;
    }
    if (vm->gdb)
        gdb_server_vm_ended(vm->gdb, result ? VM_STATUS_ERROR : vm->status);
    if (vm->control)
        control_server_vm_ended(vm->control, result ? VM_STATUS_ERROR : vm->status);
    /* The vCPUs are stopped. Devices finish what they have begun. */
    pc_pause(vm->pc);
    stop_consoles(vm);
    atomic_store(&vm->state, VM_ENDED);
    return result ? VM_STATUS_ERROR : vm->status;
}

/* ---- the debugger; control thread ---- */

static struct engine_vcpu *debugged_vcpu(void *opaque, unsigned index)
{
    return pc_vcpu(((struct vm *)opaque)->pc, index);
}

static bool debugged_is_held(void *opaque)
{
    struct vm *vm = opaque;
    bool leaving = atomic_load(&vm->requests) & 1u << VM_REQUEST_LET_GO;

    return vm_get_state(vm) == VM_HELD && !leaving;
}

/* A request too many would wait, and end what the debugger starts next. */
static void debugged_hold(void *opaque)
{
    if (!debugged_is_held(opaque))
        vm_request(opaque, VM_REQUEST_HOLD);
}

static void debugged_go(void *opaque, const bool stay[PC_MAX_CPUS])
{
    struct vm *vm = opaque;

    pthread_mutex_lock(&vm->lock);
    for (unsigned i = 0; i < vm->config.board.cpus; i++) {
        vm->vcpu[i].stay = stay[i];
        vm->vcpu[i].has_stop = false;
    }
    pthread_mutex_unlock(&vm->lock);
    vm_request(vm, VM_REQUEST_LET_GO);
}

static bool debugged_stop_of(void *opaque, unsigned index, int *reason)
{
    struct vm *vm = opaque;

    pthread_mutex_lock(&vm->lock);
    bool has_stop = vm->vcpu[index].has_stop;
    *reason = vm->vcpu[index].stop_reason;
    pthread_mutex_unlock(&vm->lock);
    return has_stop;
}

static void debugged_reset(void *opaque)
{
    vm_request(opaque, VM_REQUEST_RESET);
}

static void debugged_quit(void *opaque)
{
    vm_request(opaque, VM_REQUEST_QUIT);
}

const char *vm_gdb_address(struct vm *vm)
{
    return vm->gdb ? gdb_server_address(vm->gdb) : NULL;
}

/* ---- construction ---- */

static int open_gdb(struct vm *vm, struct error *err)
{
    if (vm->config.gdb.kind == GDB_NONE)
        return 0;
    vm->gdb_target = (struct gdb_target){
        .opaque = vm,
        .engine = vm->config.board.engine,
        .memory = pc_memory(vm->pc),
        .cpus = vm->config.board.cpus,
        .vcpu = debugged_vcpu,
        .is_held = debugged_is_held,
        .hold = debugged_hold,
        .go = debugged_go,
        .stop_of = debugged_stop_of,
        .reset = debugged_reset,
        .quit = debugged_quit,
    };
    return gdb_server_new(&vm->gdb, &vm->config.gdb, &vm->gdb_target, err);
}

static int open_consoles(struct vm *vm, struct error *err)
{
    const struct console_events events = {.leave = user_leaves, .opaque = vm};

    int result = console_new(&vm->console, &vm->config.console, &events, err);
    for (unsigned i = 0; i < vm->config.device_count && !result; i++)
        result = console_new(&vm->device_console[i], &vm->config.devices[i].console, &events, err);
    return result;
}

static int open_stats(struct vm *vm, struct error *err)
{
    int result = vm->config.stats ? stats_file_open(vm->config.stats, err) : -1;

    vm->stats = result;
    return vm->config.stats && result < 0 ? result : 0;
}

static int build_board(struct vm *vm, struct error *err)
{
    struct pc_config *board = &vm->config.board;

    board->serial = console_backend(vm->console);
    for (unsigned i = 0; i < vm->config.device_count; i++) {
        vm->extras[i] = vm->config.devices[i].extra;
        vm->extras[i].backend = console_backend(vm->device_console[i]);
    }
    board->extras = vm->extras;
    board->extra_count = vm->config.device_count;
    board->events = (struct board_events){
        .opaque = vm,
        .reset = guest_reset,
        .power_off = guest_power_off,
        .crashed = guest_crashed,
        .rearrange = guest_rearrange,
        .exit = guest_exit,
    };
    board->unplugged = device_unplugged;
    int result = pc_new(&vm->pc, board, err);
    return result ? result : pc_reset(vm->pc, err);
}

static int start_vcpu_threads(struct vm *vm, struct error *err)
{
    for (unsigned i = 0; i < vm->config.board.cpus; i++) {
        vm->vcpu[i] = (struct vm_vcpu){.vm = vm, .index = i};
        int result = pthread_create(&vm->vcpu[i].thread, NULL, vcpu_thread, &vm->vcpu[i]);
        if (result)
            return error_set(err, -result, "no thread for vCPU %u: %s", i, strerror(result));
        vm->vcpu_threads++;
    }
    return 0;
}

int vm_new(struct vm **out, const struct vm_config *config, struct error *err)
{
    struct vm *vm = calloc(1, sizeof(*vm));
    if (!vm)
        return error_set(err, -ENOMEM, "no memory for the VM");
    vm->config = *config;
    vm->stats = -1;
    pthread_mutex_init(&vm->lock, NULL);
    pthread_cond_init(&vm->gate_moved, NULL);
    pthread_cond_init(&vm->all_stopped, NULL);

    int result = 0;
    vm->wake = eventfd(0, EFD_CLOEXEC);
    if (vm->wake < 0)
        result = error_set(err, -errno, "no event descriptor for the VM: %s", strerror(errno));
    if (!result)
        result = open_consoles(vm, err);
    if (!result)
        result = open_stats(vm, err);
    if (!result)
        result = build_board(vm, err);
    if (!result)
        result = open_gdb(vm, err);
    if (!result && config->control)
        result = control_server_new(&vm->control, config->control, vm, err);
    if (!result && config->vnc.kind != VNC_NONE)
        result = vnc_server_new(&vm->vnc, &config->vnc, config->board.name, pc_display(vm->pc),
                                pc_input(vm->pc), err);
    if (!result)
        result = start_vcpu_threads(vm, err);
    if (result) {
        vm_free(vm);
        return result;
    }
    *out = vm;
    return 0;
}

void vm_free(struct vm *vm)
{
    if (!vm)
        return;
    vcpus_end(vm);
    vnc_server_free(vm->vnc);
    control_server_free(vm->control);
    gdb_server_free(vm->gdb);
    pc_free(vm->pc);
    console_free(vm->console);
    for (unsigned i = 0; i < vm->config.device_count; i++)
        console_free(vm->device_console[i]);
    if (vm->stats >= 0)
        close(vm->stats);
    if (vm->wake >= 0)
        close(vm->wake);
    pthread_cond_destroy(&vm->all_stopped);
    pthread_cond_destroy(&vm->gate_moved);
    pthread_mutex_destroy(&vm->lock);
    free(vm);
}

void vm_terminal_resized(struct vm *vm)
{
    console_resized(vm->console);
    for (unsigned i = 0; i < vm->config.device_count; i++)
        console_resized(vm->device_console[i]);
}
