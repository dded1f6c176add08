/*
 * Raw mode and signals; see terminal.h. Handlers may run on any thread and call only what is
 * async-signal-safe: tcsetattr(), raise(), vm_request().
 */
#include "terminal.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

static struct vm *_Atomic attached;
static _Atomic bool raw_wanted; /* `cooked` and `raw` are filled in */
static _Atomic bool asked_to_quit;
static struct termios cooked, raw;

/* TCSANOW: waiting for output to drain could take forever, with a reader that has stopped. */
static void enter_raw(void)
{
    if (atomic_load(&raw_wanted))
        tcsetattr(STDIN_FILENO, TCSANOW, &raw);
}

static void leave_raw(void)
{
    if (atomic_load(&raw_wanted))
        tcsetattr(STDIN_FILENO, TCSANOW, &cooked);
}

/* Ends the process as the signal would have without us. It is blocked until the handler returns. */
static void die_by(int number)
{
    leave_raw();
    signal(number, SIG_DFL);
    raise(number);
}

static void on_quit(int number)
{
    struct vm *vm = atomic_load(&attached);
    if (!vm || atomic_exchange(&asked_to_quit, true)) {
        die_by(number);
        return;
    }
    vm_request(vm, VM_REQUEST_QUIT);
}

/* The shell that gets the terminal expects it as it left it. */
static void on_stop(int number)
{
    int saved = errno;
    leave_raw();
    raise(SIGSTOP);
    errno = saved;
}

static void on_continue(int number)
{
    int saved = errno;
    enter_raw();
    struct vm *vm = atomic_load(&attached);
    if (vm)
        vm_terminal_resized(vm);
    errno = saved;
}

static void on_resize(int number)
{
    struct vm *vm = atomic_load(&attached);
    if (vm)
        vm_terminal_resized(vm);
}

static void on_stats(int number)
{
    struct vm *vm = atomic_load(&attached);
    if (vm)
        vm_request(vm, VM_REQUEST_STATS);
}

static const struct {
    int number;
    void (*handler)(int number);
    bool asks; /* comes from outside: kept away from all threads but the main one */
} signals[] = {
    {SIGINT, on_quit, true},   {SIGTERM, on_quit, true},     {SIGHUP, on_quit, true},
    {SIGTSTP, on_stop, true},  {SIGCONT, on_continue, true}, {SIGWINCH, on_resize, true},
    {SIGUSR1, on_stats, true}, {SIGABRT, die_by, false},     {SIGBUS, die_by, false},
    {SIGFPE, die_by, false},   {SIGILL, die_by, false},      {SIGSEGV, die_by, false},
};

static void set_mask(int how)
{
    sigset_t set;
    sigemptyset(&set);
    for (size_t i = 0; i < ARRAY_SIZE(signals); i++) {
        if (signals[i].asks)
            sigaddset(&set, signals[i].number);
    }
    pthread_sigmask(how, &set, NULL);
}

/* The crash handlers come first of all: an engine that uses SIGSEGV and the like puts its own in
 * front and passes on what is not its business. */
void terminal_block_signals(void)
{
    set_mask(SIG_BLOCK);
    signal(SIGPIPE, SIG_IGN);
    for (size_t i = 0; i < ARRAY_SIZE(signals); i++) {
        struct sigaction action = {.sa_handler = signals[i].handler,
                                   .sa_flags = SA_RESTART | SA_ONSTACK};
        sigemptyset(&action.sa_mask);
        sigaction(signals[i].number, &action, NULL);
    }
    atexit(leave_raw);
}

int terminal_attach(struct vm *vm, bool want_raw, struct error *err)
{
    atomic_store(&attached, vm);
    if (want_raw && isatty(STDIN_FILENO)) {
        if (tcgetattr(STDIN_FILENO, &cooked) < 0)
            return error_set(err, -errno, "cannot read the modes of the terminal: %s",
                             strerror(errno));
        raw = cooked;
        cfmakeraw(&raw);
        /* Messages of this process end in a bare newline. */
        raw.c_oflag |= OPOST;
        atomic_store(&raw_wanted, true);
        enter_raw();
    }
    set_mask(SIG_UNBLOCK);
    return 0;
}

void terminal_detach(void)
{
    set_mask(SIG_BLOCK);
    leave_raw();
    atomic_store(&raw_wanted, false);
    atomic_store(&attached, NULL);
    set_mask(SIG_UNBLOCK);
}
