/*
 * Which engine runs a VM: the one that was asked for, or, for "auto", the fastest that works here.
 * Used by `sill run` and `sill engines`; control thread.
 */
#ifndef SILL_ENGINE_SELECT_H
#define SILL_ENGINE_SELECT_H

#include "engine/engine.h"

/* All engines, in the order in which "auto" prefers them; ends with NULL. */
extern const struct engine_ops *const engine_list[];

struct engine_choice {
    const struct engine_ops *ops;
    struct engine_info info; /* of that engine */
    char reason[512];        /* one clause: why this one */
};

/*
 * `name` is "auto" or an engine's. "auto" takes the first of engine_list that runs supervisor code
 * at hardware speed, else the last usable one: real hardware for user code is no gain while the
 * kernel crawls. Probes each engine it considers. -EINVAL for an unknown name, -ENODEV when the
 * engine does not work here; the sentence says why.
 */
SILL_CHECKED int engine_select(struct engine_choice *out, const char *name, struct error *err);

/* The same from another list (tests). */
SILL_CHECKED int engine_select_from(struct engine_choice *out, const char *name,
                                    const struct engine_ops *const *list, struct error *err);

#endif
