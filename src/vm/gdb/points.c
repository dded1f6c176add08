/*
 * Breakpoints and watchpoints, Z0 to Z4; see session.h. "Software" breakpoints are the engine's
 * like the others: nothing is written to the guest's memory. All vCPUs have the same; they get them
 * when the guest goes on.
 */
#include <string.h>

#include "vm/gdb/commands.h"

bool gdb_point_is_watch(enum gdb_point_type type)
{
    return type >= GDB_WATCH_WRITE;
}

static enum engine_breakpoint_kind kind_of(enum gdb_point_type type)
{
    switch (type) {
    case GDB_WATCH_WRITE:
        return ENGINE_BREAK_WRITE;
    case GDB_WATCH_READ: /* no engine has reads alone; GDB looks whether the value changed */
    case GDB_WATCH_ACCESS:
        return ENGINE_BREAK_ACCESS;
    default:
        return ENGINE_BREAK_EXECUTE;
    }
}

static bool find(const struct gdb_session *s, enum gdb_point_type type, gva_t address, unsigned *at)
{
    for (*at = 0; *at < s->debug.count; ++*at)
        if (s->type[*at] == type && s->debug.breakpoint[*at].address == address)
            return true;
    return false;
}

bool gdb_point_find(const struct gdb_session *s, enum gdb_point_type type, gva_t address)
{
    unsigned at;

    return find(s, type, address, &at);
}

/* Whether the engine has room for them all. */
static bool try_engine(struct gdb_session *s)
{
    const struct gdb_target *t = s->target;

    return t->engine->set_debug(t->vcpu(t->opaque, 0), &s->debug) == 0;
}

static void insert_point(struct gdb_session *s, enum gdb_point_type type, gva_t address,
                         uint64_t length)
{
    unsigned at = s->debug.count;

    if (gdb_point_find(s, type, address)) { /* GDB may ask twice */
        gdb_put(gdb_reply(s), "OK");
        return;
    }
    if (at == ENGINE_MAX_BREAKPOINTS) {
        gdb_reply_error(s, GDB_ERROR_FULL);
        return;
    }
    s->debug.breakpoint[at] = (struct engine_breakpoint){kind_of(type), address, length};
    s->type[at] = type;
    s->debug.count++;
    if (try_engine(s)) {
        gdb_put(gdb_reply(s), "OK");
    } else {
        s->debug.count--;
        gdb_reply_error(s, GDB_ERROR_FULL);
    }
}

static void remove_point(struct gdb_session *s, enum gdb_point_type type, gva_t address)
{
    unsigned at;

    if (find(s, type, address, &at)) {
        unsigned last = --s->debug.count;

        s->debug.breakpoint[at] = s->debug.breakpoint[last];
        s->type[at] = s->type[last];
    }
    gdb_put(gdb_reply(s), "OK");
}

void gdb_command_point(struct gdb_session *s, bool insert, const char *at)
{
    uint64_t type, address, length;

    if (!gdb_take_number(&at, &type) || type >= GDB_POINT_TYPES) {
        gdb_reply(s); /* a kind that is not known */
        return;
    }
    if (!gdb_take_char(&at, ',') || !gdb_take_number(&at, &address) || !gdb_take_char(&at, ',') ||
        !gdb_take_number(&at, &length) || (gdb_point_is_watch(type) && !length)) {
        gdb_reply_error(s, GDB_ERROR_SYNTAX);
        return;
    }
    if (insert)
        insert_point(s, (enum gdb_point_type)type, address, length);
    else
        remove_point(s, (enum gdb_point_type)type, address);
}

void gdb_points_clear(struct gdb_session *s)
{
    const struct gdb_target *t = s->target;

    s->debug.count = 0;
    s->debug.single_step = false;
    for (unsigned i = 0; i < t->cpus; i++) {
        /* Nothing is something that every engine has; if not, the guest only runs slower. */
        int result = t->engine->set_debug(t->vcpu(t->opaque, i), &s->debug);
        (void)result;
    }
}
