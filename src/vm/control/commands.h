/*
 * What can be asked of a VM over its control socket, one table entry a command; docs/control.md is
 * the user's view. Control thread.
 */
#ifndef SILL_VM_CONTROL_COMMANDS_H
#define SILL_VM_CONTROL_COMMANDS_H

#include <jansson.h>

#include "base/error.h"
#include "vm/control/typist.h"

struct vm;

/* What the commands of all clients work on. */
struct control {
    struct vm *vm;
    struct typist typist;
};

/* Answers of a command, beside negative errnos with a sentence. */
enum control_outcome {
    CONTROL_DONE,
    CONTROL_LATER, /* the answer has to wait; ask again with command_finish() */
};

struct command {
    const char *name;
    /* Puts what it has to tell into `reply`. */
    int (*run)(struct control *control, json_t *request, json_t *reply, struct error *err);
    /* After CONTROL_LATER: is it done now? NULL for those that never say so. */
    int (*finish)(struct control *control, json_t *reply, struct error *err);
};

/* NULL: there is none of that name. */
const struct command *command_find(const char *name);

/* The string that a command needs; -EINVAL with a sentence. */
SILL_CHECKED int command_string(const char **out, json_t *request, const char *key,
                                struct error *err);

#endif
