/*
 * The control socket of a VM: clients send JSON objects, one a line, and get one answer for each in
 * their order. It has no thread: the VM's control thread polls the descriptors beside its own and
 * calls control_server_work(), which never blocks. A client that does not read, or sends nonsense,
 * stops nobody but itself.
 */
#ifndef SILL_VM_CONTROL_SERVER_H
#define SILL_VM_CONTROL_SERVER_H

#include <poll.h>

#include "base/error.h"

struct control_server;
struct vm;

/* Listens at the Unix socket `path`, for the owner alone. `vm` outlives the server. */
SILL_CHECKED int control_server_new(struct control_server **out, const char *path, struct vm *vm,
                                    struct error *err);
void control_server_free(struct control_server *server); /* NULL is fine */

#define CONTROL_CLIENTS 8
#define CONTROL_SERVER_POLLS (1 + CONTROL_CLIENTS)
void control_server_poll(const struct control_server *server,
                         struct pollfd polls[CONTROL_SERVER_POLLS]);
/* Milliseconds after which there is work without any of them; -1: none. */
int control_server_timeout(const struct control_server *server);
/* Does all that can be done now: after a poll, and when the VM's state has changed. */
void control_server_work(struct control_server *server);
/* Tells the clients that a device has left its slot. */
void control_server_device_removed(struct control_server *server, const char *name);
/* Tells the clients that the VM ended with this exit status. */
void control_server_vm_ended(struct control_server *server, int status);

#endif
