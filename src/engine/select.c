/* The choice of an engine; see select.h. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/select.h"

/* Adds "NAME: REASON; " to what was passed over. */
static void note(char *text, size_t size, const struct engine_ops *engine,
                 const struct engine_info *info)
{
    size_t length = strlen(text);
    snprintf(text + length, size - length, "%s%s: %s", length ? "; " : "", engine->name,
             info->reason);
}

static int select_auto(struct engine_choice *out, const struct engine_ops *const *list,
                       struct error *err)
{
    char passed_over[sizeof(out->reason)] = "";
    struct engine_info *info = malloc(sizeof(*info));

    if (!info)
        return error_set(err, -ENOMEM, "out of memory");
    out->ops = NULL;
    for (; *list; list++) {
        (*list)->probe(info);
        if (!info->usable) {
            note(passed_over, sizeof(passed_over), *list, info);
            continue;
        }
        if (out->ops) /* usable too, but not fast, and a later one is there */
            note(passed_over, sizeof(passed_over), out->ops, &out->info);
        out->ops = *list;
        out->info = *info;
        if (info->capabilities & ENGINE_CAP_FAST_SUPERVISOR)
            break;
    }
    free(info);
    if (!out->ops)
        return error_set(err, -ENODEV, "no engine works on this host: %s", passed_over);
    snprintf(out->reason, sizeof(out->reason), "%s",
             passed_over[0] ? passed_over : out->info.reason);
    return 0;
}

int engine_select_from(struct engine_choice *out, const char *name,
                       const struct engine_ops *const *list, struct error *err)
{
    if (!strcmp(name, "auto"))
        return select_auto(out, list, err);
    for (unsigned i = 0; list[i]; i++) {
        if (strcmp(name, list[i]->name))
            continue;
        list[i]->probe(&out->info);
        if (!out->info.usable)
            return error_set(err, -ENODEV, "engine %s does not work here: %s", name,
                             out->info.reason);
        out->ops = list[i];
        snprintf(out->reason, sizeof(out->reason), "asked for");
        return 0;
    }
    return error_set(err, -EINVAL, "unknown engine \"%s\"; there are auto, kvm and dbt", name);
}
