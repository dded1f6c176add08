/*
 * The life of a VM: requests, states, threads and exit statuses, with an engine whose vCPUs do only
 * what the test tells them. The board and its devices are the real ones.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "dev/legacy/acpi_pm.h"
#include "vm/vm.h"

#define CPUS 3
#define PATIENCE_SECONDS 10
#define RESET_FULL 6 /* written to ACPI_PM_RESET_PORT */
#define DEBUG_EXIT_PORT 0xf4

/* ---- the engine: vCPU 0 runs the script, the others wait to be kicked ---- */

enum step_kind { STEP_END, STEP_OUT, STEP_EXIT, STEP_WAIT };

struct step {
    enum step_kind kind;
    uint16_t port; /* STEP_OUT */
    uint32_t value;
    enum engine_exit_kind exit; /* STEP_EXIT */
};

struct engine_vm {
    struct engine_vm_config config;
};

struct engine_vcpu {
    struct engine_vm *vm;
    unsigned index;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    bool kicked;
};

static struct script {
    const struct step *next;
    _Atomic unsigned resets; /* set_state() of vCPU 0 */
    _Atomic int inside;      /* vCPUs in run() */
    _Atomic bool time_held;
} script;

static int fake_vm_create(struct engine_vm **out, const struct engine_vm_config *config,
                          struct error *err)
{
    struct engine_vm *vm = calloc(1, sizeof(*vm));
    vm->config = *config;
    *out = vm;
    return 0;
}

static void fake_vm_destroy(struct engine_vm *vm)
{
    free(vm);
}

static int fake_memory_changed(struct engine_vm *vm, gpa_t gpa, uint64_t size, struct error *err)
{
    return 0;
}

static void fake_time_hold(struct engine_vm *vm, bool hold)
{
    assert_int_equal(atomic_load(&script.inside), 0);
    atomic_store(&script.time_held, hold);
}

static int fake_vcpu_create(struct engine_vcpu **out, struct engine_vm *vm, unsigned index,
                            struct error *err)
{
    struct engine_vcpu *vcpu = calloc(1, sizeof(*vcpu));
    vcpu->vm = vm;
    vcpu->index = index;
    pthread_mutex_init(&vcpu->lock, NULL);
    pthread_cond_init(&vcpu->wake, NULL);
    *out = vcpu;
    return 0;
}

static void fake_vcpu_destroy(struct engine_vcpu *vcpu)
{
    pthread_cond_destroy(&vcpu->wake);
    pthread_mutex_destroy(&vcpu->lock);
    free(vcpu);
}

static void wait_for_kick(struct engine_vcpu *vcpu, struct engine_exit *exit)
{
    pthread_mutex_lock(&vcpu->lock);
    while (!vcpu->kicked)
        pthread_cond_wait(&vcpu->wake, &vcpu->lock);
    vcpu->kicked = false;
    pthread_mutex_unlock(&vcpu->lock);
    exit->kind = ENGINE_EXIT_KICKED;
}

static bool take_kick(struct engine_vcpu *vcpu)
{
    pthread_mutex_lock(&vcpu->lock);
    bool kicked = vcpu->kicked;
    vcpu->kicked = false;
    pthread_mutex_unlock(&vcpu->lock);
    return kicked;
}

static void run_script(struct engine_vcpu *vcpu, struct engine_exit *exit)
{
    const struct engine_callbacks *board = &vcpu->vm->config.callbacks;
    exit->kind = ENGINE_EXIT_KICKED;
    while (!take_kick(vcpu)) {
        const struct step *step = script.next++;
        switch (step->kind) {
        case STEP_OUT:
            board->port_write(board->opaque, step->port, 1, step->value);
            break;
        case STEP_EXIT:
            exit->kind = step->exit;
            error_set(&exit->error, 0, "the script says so");
            return;
        case STEP_WAIT:
            wait_for_kick(vcpu, exit);
            return;
        case STEP_END:
            fail_msg("the vCPU ran on after the end of its script");
        }
    }
}

static void fake_run(struct engine_vcpu *vcpu, struct engine_exit *exit)
{
    atomic_fetch_add(&script.inside, 1);
    if (vcpu->index == 0)
        run_script(vcpu, exit);
    else
        wait_for_kick(vcpu, exit);
    atomic_fetch_sub(&script.inside, 1);
}

static void fake_kick(struct engine_vcpu *vcpu)
{
    pthread_mutex_lock(&vcpu->lock);
    vcpu->kicked = true;
    pthread_cond_signal(&vcpu->wake);
    pthread_mutex_unlock(&vcpu->lock);
}

static int fake_set_state(struct engine_vcpu *vcpu, const struct x86_vcpu_state *state,
                          unsigned mask)
{
    assert_int_equal(atomic_load(&script.inside), 0);
    assert_int_equal(state->run_state, vcpu->index ? X86_WAIT_FOR_SIPI : X86_RUNNABLE);
    if (vcpu->index == 0)
        atomic_fetch_add(&script.resets, 1);
    return 0;
}

static void fake_stats(struct engine_vm *vm, const struct stats *to)
{
    assert_int_equal(atomic_load(&script.inside), 0);
    stats_begin(to, "group");
    stats_value(to, "resets", atomic_load(&script.resets));
    stats_end(to);
}

static void fake_extint_set(struct engine_vm *vm, bool level)
{
}

static void fake_msi_send(struct engine_vm *vm, const struct msi_message *message)
{
}

static const struct engine_ops fake_engine = {
    .name = "fake",
    .vm_create = fake_vm_create,
    .vm_destroy = fake_vm_destroy,
    .memory_changed = fake_memory_changed,
    .time_hold = fake_time_hold,
    .vcpu_create = fake_vcpu_create,
    .vcpu_destroy = fake_vcpu_destroy,
    .run = fake_run,
    .kick = fake_kick,
    .set_state = fake_set_state,
    .stats = fake_stats,
    .extint_set = fake_extint_set,
    .msi_send = fake_msi_send,
};

/* ---- running a VM ---- */

static struct vm_config fake_config(void)
{
    static const struct x86_cpuid nothing_special;
    return (struct vm_config){
        .board = {.name = "test",
                  .engine = &fake_engine,
                  .engine_cpuid = &nothing_special,
                  .cpus = CPUS,
                  .cpu_model = "host",
                  .memory = 16 * MIB},
        .devices = {{.extra = {.kind = PC_DEBUG_EXIT, .port = DEBUG_EXIT_PORT}},
                    {.extra = {.kind = PC_PVPANIC}}},
        .device_count = 2,
    };
}

static struct vm *new_vm(const struct vm_config *config, const struct step *steps)
{
    struct vm *vm;
    struct error err = {{0}};
    script.next = steps;
    atomic_store(&script.resets, 0);
    if (vm_new(&vm, config, &err))
        fail_msg("%s", err.text);
    return vm;
}

static int run_to_end(const struct vm_config *config, const struct step *steps, struct error *err)
{
    struct vm *vm = new_vm(config, steps);
    int status = vm_run(vm, err);
    assert_int_equal(vm_get_state(vm), VM_ENDED);
    vm_free(vm);
    return status;
}

static void test_quit(void **state)
{
    const struct vm_config config = fake_config();
    const struct step steps[] = {
        {.kind = STEP_EXIT, .exit = ENGINE_EXIT_KICKED}, {.kind = STEP_WAIT}, {.kind = STEP_END}};
    struct vm *vm = new_vm(&config, steps);
    vm_request(vm, VM_REQUEST_QUIT);
    assert_int_equal(vm_run(vm, NULL), VM_STATUS_OK);
    vm_free(vm);
}

static void test_debug_exit(void **state)
{
    const struct vm_config config = fake_config();
    const struct step steps[] = {{.kind = STEP_OUT, .port = DEBUG_EXIT_PORT, .value = 0x10},
                                 {.kind = STEP_END}};
    assert_int_equal(run_to_end(&config, steps, NULL), (0x10 << 1) | 1);
}

static void test_panic_device(void **state)
{
    const struct vm_config config = fake_config();
    const struct step steps[] = {{.kind = STEP_OUT, .port = 0x505, .value = 1}, {.kind = STEP_END}};
    assert_int_equal(run_to_end(&config, steps, NULL), VM_STATUS_CRASHED);
}

static void test_triple_fault(void **state)
{
    const struct vm_config config = fake_config();
    const struct step steps[] = {{.kind = STEP_EXIT, .exit = ENGINE_EXIT_SHUTDOWN},
                                 {.kind = STEP_END}};
    assert_int_equal(run_to_end(&config, steps, NULL), VM_STATUS_CRASHED);
}

static void test_engine_failure_is_told(void **state)
{
    const struct vm_config config = fake_config();
    const struct step steps[] = {{.kind = STEP_EXIT, .exit = ENGINE_EXIT_FAILED},
                                 {.kind = STEP_END}};
    struct error err;
    assert_int_equal(run_to_end(&config, steps, &err), VM_STATUS_ERROR);
    assert_non_null(strstr(err.text, "vCPU 0"));
    assert_non_null(strstr(err.text, "the script says so"));
}

/* The vCPUs stop, everything is reset, and the vCPU goes on to what ends the run. */
static void test_reset_starts_again(void **state)
{
    const struct vm_config config = fake_config();
    const struct step steps[] = {
        {.kind = STEP_OUT, .port = ACPI_PM_RESET_PORT, .value = RESET_FULL},
        {.kind = STEP_OUT, .port = ACPI_PM_RESET_PORT, .value = RESET_FULL},
        {.kind = STEP_OUT, .port = DEBUG_EXIT_PORT, .value = 2},
        {.kind = STEP_END}};
    assert_int_equal(run_to_end(&config, steps, NULL), (2 << 1) | 1);
    assert_int_equal(atomic_load(&script.resets), 3);
}

static void test_no_reboot_makes_a_reset_a_crash(void **state)
{
    struct vm_config config = fake_config();
    const struct step steps[] = {
        {.kind = STEP_OUT, .port = ACPI_PM_RESET_PORT, .value = RESET_FULL}, {.kind = STEP_END}};
    config.no_reboot = true;
    assert_int_equal(run_to_end(&config, steps, NULL), VM_STATUS_CRASHED);
}

static void wait_for_state(struct vm *vm, enum vm_state state)
{
    const struct timespec pause = {.tv_nsec = 1000000};
    for (int i = 0; i < PATIENCE_SECONDS * 1000; i++) {
        if (vm_get_state(vm) == state)
            return;
        nanosleep(&pause, NULL);
    }
    fail_msg("the VM does not reach state %d", state);
}

static void *run_thread(void *opaque)
{
    return (void *)(intptr_t)vm_run(opaque, NULL);
}

static void test_pause_and_resume(void **state)
{
    const struct vm_config config = fake_config();
    const struct step steps[] = {
        {.kind = STEP_WAIT}, {.kind = STEP_WAIT}, {.kind = STEP_WAIT}, {.kind = STEP_END}};
    struct vm *vm = new_vm(&config, steps);
    pthread_t thread;
    void *status;

    assert_int_equal(pthread_create(&thread, NULL, run_thread, vm), 0);
    wait_for_state(vm, VM_RUNNING);
    vm_request(vm, VM_REQUEST_PAUSE);
    wait_for_state(vm, VM_PAUSED);
    assert_int_equal(atomic_load(&script.inside), 0);
    assert_true(atomic_load(&script.time_held));

    /* Not legal here, so it changes nothing. */
    vm_request(vm, VM_REQUEST_START);
    vm_request(vm, VM_REQUEST_RESET);
    vm_request(vm, VM_REQUEST_RESUME);
    wait_for_state(vm, VM_RUNNING);
    assert_int_equal(atomic_load(&script.resets), 2);
    assert_false(atomic_load(&script.time_held));

    vm_request(vm, VM_REQUEST_QUIT);
    assert_int_equal(pthread_join(thread, &status), 0);
    assert_int_equal((intptr_t)status, VM_STATUS_OK);
    vm_free(vm);
}

/* A vCPU that meets a breakpoint stops them all, until the debugger lets go. */
static void test_debugger_holds_the_vm(void **state)
{
    const struct vm_config config = fake_config();
    const struct step steps[] = {{.kind = STEP_EXIT, .exit = ENGINE_EXIT_DEBUG},
                                 {.kind = STEP_WAIT},
                                 {.kind = STEP_WAIT},
                                 {.kind = STEP_WAIT},
                                 {.kind = STEP_END}};
    struct vm *vm = new_vm(&config, steps);
    pthread_t thread;
    void *status;

    assert_int_equal(pthread_create(&thread, NULL, run_thread, vm), 0);
    wait_for_state(vm, VM_HELD);
    assert_int_equal(atomic_load(&script.inside), 0);
    vm_request(vm, VM_REQUEST_RESUME); /* not the debugger's word */
    vm_request(vm, VM_REQUEST_RESET);
    vm_request(vm, VM_REQUEST_LET_GO);
    wait_for_state(vm, VM_RUNNING);
    assert_int_equal(atomic_load(&script.resets), 2);
    vm_request(vm, VM_REQUEST_HOLD);
    wait_for_state(vm, VM_HELD);
    vm_request(vm, VM_REQUEST_QUIT);
    assert_int_equal(pthread_join(thread, &status), 0);
    assert_int_equal((intptr_t)status, VM_STATUS_OK);
    vm_free(vm);
}

static void assert_file_has(const char *path, const char *text)
{
    const struct timespec pause = {.tv_nsec = 1000000};
    char found[1000] = "";

    for (int i = 0; i < PATIENCE_SECONDS * 1000 && !strstr(found, text); i++) {
        FILE *file = fopen(path, "r");
        assert_non_null(file);
        found[fread(found, 1, sizeof(found) - 1, file)] = '\0';
        fclose(file);
        nanosleep(&pause, NULL);
    }
    assert_non_null(strstr(found, text));
}

static void test_statistics_are_written_on_request_and_at_the_end(void **state)
{
    struct vm_config config = fake_config();
    const struct step steps[] = {
        {.kind = STEP_WAIT}, {.kind = STEP_WAIT}, {.kind = STEP_WAIT}, {.kind = STEP_END}};
    char path[] = "/tmp/sill-vm-test-XXXXXX";
    int fd = mkstemp(path);
    pthread_t thread;

    assert_true(fd >= 0);
    close(fd);
    config.stats = path;
    struct vm *vm = new_vm(&config, steps);
    assert_int_equal(pthread_create(&thread, NULL, run_thread, vm), 0);
    wait_for_state(vm, VM_RUNNING);
    vm_request(vm, VM_REQUEST_STATS);
    assert_file_has(path, "\"resets\": 1\n");
    vm_request(vm, VM_REQUEST_RESET);
    vm_request(vm, VM_REQUEST_QUIT);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_file_has(path, "\"engine\": \"fake\"");
    vm_free(vm);
    unlink(path);
}

static void test_never_run(void **state)
{
    const struct vm_config config = fake_config();
    const struct step steps[] = {{.kind = STEP_END}};
    vm_free(new_vm(&config, steps));
}

static void test_two_devices_at_one_port(void **state)
{
    struct vm_config config = fake_config();
    struct error err;
    struct vm *vm;

    config.devices[0].extra.port = 0x3f8;
    assert_true(vm_new(&vm, &config, &err) < 0);
    assert_true(err.text[0]);
}

/* What one board saves another of the same kind takes, and saves again to the same bytes. */
static void test_devices_survive_save_and_restore(void **state)
{
    const struct vm_config config = fake_config();
    struct state_buffer first = {0}, second = {0};
    struct error err = {{0}};
    struct pc *from, *to;

    assert_int_equal(pc_new(&from, &config.board, &err), 0);
    assert_int_equal(pc_new(&to, &config.board, &err), 0);
    assert_int_equal(pc_reset(from, &err), 0);
    assert_int_equal(pc_reset(to, &err), 0);
    assert_int_equal(pc_save_devices(from, &first), 0);
    if (pc_restore_devices(to, &first, &err))
        fail_msg("%s", err.text);
    assert_int_equal(pc_save_devices(to, &second), 0);
    assert_int_equal(first.length, second.length);
    assert_memory_equal(first.data, second.data, first.length);
    state_buffer_done(&first);
    state_buffer_done(&second);
    pc_free(from);
    pc_free(to);
}

static void plug_rng(struct pc *pc, unsigned slot)
{
    const struct pc_plug plug = {.kind = PC_PLUG_RNG, .slot = slot};
    struct error err;
    const char *name;

    assert_int_equal(pc_plug(pc, &plug, &name, &err), 0);
}

/* Devices that came one by one and in another order are saved as those that were there from the
 * start, and only a board that has them takes the state. */
static void test_plugged_devices_survive_save_and_restore(void **state)
{
    struct vm_config config = fake_config();
    struct state_buffer saved = {0};
    struct error err = {{0}};
    struct pc *from, *to;

    config.board.slot_count = 3;
    assert_int_equal(pc_new(&from, &config.board, &err), 0);
    assert_int_equal(pc_reset(from, &err), 0);
    assert_int_equal(pc_start(from, &err), 0);
    pc_pause(from);
    plug_rng(from, 3);
    plug_rng(from, 2);
    pc_resume(from);
    pc_pause(from);
    plug_rng(from, 1);
    assert_int_equal(pc_unplug(from, "rng1", true, &err), 0); /* of slot 2 */
    assert_int_equal(pc_save_devices(from, &saved), 0);

    assert_int_equal(pc_new(&to, &config.board, &err), 0);
    plug_rng(to, 1);
    plug_rng(to, 3);
    assert_int_equal(pc_reset(to, &err), 0);
    if (pc_restore_devices(to, &saved, &err))
        fail_msg("%s", err.text);
    pc_free(to);

    saved.position = 0;
    assert_int_equal(pc_new(&to, &config.board, &err), 0);
    plug_rng(to, 1);
    plug_rng(to, 2);
    assert_int_equal(pc_reset(to, &err), 0);
    assert_int_equal(pc_restore_devices(to, &saved, &err), -EBADMSG);
    assert_true(err.text[0]);
    state_buffer_done(&saved);
    pc_free(from);
    pc_free(to);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_quit),
        cmocka_unit_test(test_debug_exit),
        cmocka_unit_test(test_panic_device),
        cmocka_unit_test(test_triple_fault),
        cmocka_unit_test(test_engine_failure_is_told),
        cmocka_unit_test(test_reset_starts_again),
        cmocka_unit_test(test_no_reboot_makes_a_reset_a_crash),
        cmocka_unit_test(test_pause_and_resume),
        cmocka_unit_test(test_debugger_holds_the_vm),
        cmocka_unit_test(test_statistics_are_written_on_request_and_at_the_end),
        cmocka_unit_test(test_never_run),
        cmocka_unit_test(test_two_devices_at_one_port),
        cmocka_unit_test(test_devices_survive_save_and_restore),
        cmocka_unit_test(test_plugged_devices_survive_save_and_restore),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
