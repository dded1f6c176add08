/*
 * The socket of the GDB stub: one client at a time, whose bytes become packets of its session. It
 * has no thread. The VM's control thread polls the descriptors beside its own and calls
 * gdb_server_work(), which never blocks; a client that does not read stops nobody but itself.
 */
#ifndef SILL_VM_GDB_SERVER_H
#define SILL_VM_GDB_SERVER_H

#include <poll.h>

#include "vm/gdb/session.h"

struct gdb_options {
    enum { GDB_NONE, GDB_TCP, GDB_UNIX } kind;
    const char *host; /* GDB_TCP: a numeric address */
    uint16_t port;    /* GDB_TCP; 0: any that is free */
    const char *path; /* GDB_UNIX */
    enum gdb_arch arch;
    bool wait; /* the guest starts when a client tells it to */
};

/* "tcp:ADDRESS:PORT" or "unix:PATH", then any of ",wait" and ",arch=auto|i386|x86-64". -EINVAL;
 * `text` is changed and `options` points into it afterwards. */
SILL_CHECKED int gdb_parse(struct gdb_options *options, char *text, struct error *err);

struct gdb_server;

/* Listens. `target` outlives the server. */
SILL_CHECKED int gdb_server_new(struct gdb_server **out, const struct gdb_options *options,
                                const struct gdb_target *target, struct error *err);
void gdb_server_free(struct gdb_server *server); /* NULL is fine */

/* A client is there, or is just leaving. */
bool gdb_server_in_use(const struct gdb_server *server);
/* What a user types behind GDB's `target remote`. Lives as long as the server. */
const char *gdb_server_address(const struct gdb_server *server);

#define GDB_SERVER_POLLS 2
void gdb_server_poll(const struct gdb_server *server, struct pollfd polls[GDB_SERVER_POLLS]);
/* Does all that can be done now: after a poll, and when the VM's state has changed. */
void gdb_server_work(struct gdb_server *server);
/* Tells the client that the VM ended with this exit status, and closes. */
void gdb_server_vm_ended(struct gdb_server *server, int status);

#endif
