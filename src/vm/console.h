/*
 * Where a guest's console goes: the back ends of base/chardev.h.
 *
 *     stdio         this process's standard input and output
 *     file:PATH     output only; a regular file is emptied first
 *     socket:PATH   a Unix stream socket that waits for a client, one at a time
 *     none          output vanishes
 *
 * Output goes to the file descriptor from inside write(), on the front end's thread: it is never
 * kept here, so nothing is lost when the VM ends. One I/O thread takes input, clients and the
 * moments when a full descriptor has room again.
 *
 * On a stdio console whose input is a terminal, Ctrl-] is the escape key: `Ctrl-] q` leaves the VM,
 * `Ctrl-] Ctrl-]` sends one Ctrl-] to the guest, and any other key is sent together with the
 * Ctrl-] before it. The terminal's modes and this process's signals are the caller's business.
 */
#ifndef SILL_VM_CONSOLE_H
#define SILL_VM_CONSOLE_H

#include "base/chardev.h"
#include "base/error.h"

enum console_kind { CONSOLE_NONE, CONSOLE_STDIO, CONSOLE_FILE, CONSOLE_SOCKET };

struct console_target {
    enum console_kind kind;
    const char *path; /* of CONSOLE_FILE and CONSOLE_SOCKET; points into the parsed text */
};

/* Reads the form above. -EINVAL; `text` must outlive `target`. */
SILL_CHECKED int console_parse(struct console_target *target, const char *text, struct error *err);

struct console;

struct console_events {
    /* The user typed the escape key and q. I/O thread; may not stop the console. May be NULL. */
    void (*leave)(void *opaque);
    void *opaque;
};

/* Opens the file or binds the socket. A socket file that nobody serves any more is replaced, a path
 * that is taken otherwise is an error. */
SILL_CHECKED int console_new(struct console **out, const struct console_target *target,
                             const struct console_events *events, struct error *err);
/* Removes the socket file. The I/O thread has been stopped. NULL is fine. */
void console_free(struct console *console);

/* What a device attaches to; NULL for CONSOLE_NONE. It lives as long as the console. */
struct char_backend *console_backend(struct console *console);

/* Starts and stops the I/O thread. Control thread, after the front end has attached. */
SILL_CHECKED int console_start(struct console *console, struct error *err);
void console_stop(struct console *console);

/* The terminal's window changed: the front end will hear of it. Any thread, async-signal-safe. */
void console_resized(struct console *console);

#endif
