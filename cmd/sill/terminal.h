/*
 * The terminal that `sill run` sits on: raw while a guest's console is on it, and as it was before
 * whenever this process ends, stops or crashes. There is one terminal and one set of signal
 * handlers in a process, so this is the one place with global state; libraries have none.
 */
#ifndef SILL_CMD_TERMINAL_H
#define SILL_CMD_TERMINAL_H

#include <signal.h>

#include "base/error.h"
#include "vm/vm.h"

/* The signals that ask for something, blocked for this thread and those that it creates until
 * terminal_attach(). */
void terminal_block_signals(void);

/*
 * From here on SIGINT, SIGTERM and SIGHUP ask `vm` to end (a second one ends the process),
 * SIGTSTP, SIGCONT and SIGWINCH do what a user expects of them, SIGUSR1 writes the statistics. With
 * `raw`, and standard input a terminal, it goes into raw mode: every key is the guest's.
 */
SILL_CHECKED int terminal_attach(struct vm *vm, bool raw, struct error *err);

/* Gives the terminal back; the signals end the process again. Before vm_free(). */
void terminal_detach(void);

#endif
