/* Run control and the connection's life; see session.h. What looks at registers and memory is in
 * inspect.c, breakpoints are in points.c. */
#include "vm/gdb/session.h"

#include <stdio.h>
#include <string.h>

#include "vm/gdb/commands.h"
#include "x86/arch.h"

#define SIGNAL_INT 2
#define SIGNAL_TRAP 5
#define SIGNAL_SEGV 11

void gdb_session_begin(struct gdb_session *s, const struct gdb_target *target, enum gdb_arch arch)
{
    memset(s, 0, sizeof(*s));
    s->target = target;
    s->arch = arch;
    s->state = GDB_ARRIVING;
    target->hold(target->opaque);
}

struct gdb_writer *gdb_reply(struct gdb_session *s)
{
    s->has_reply = true;
    return &s->reply;
}

void gdb_reply_error(struct gdb_session *s, int number)
{
    s->reply.length = 0;
    gdb_put(gdb_reply(s), "E%02x", (unsigned)number);
}

/* ---- stops ---- */

static bool knows(const struct gdb_session *s, enum gdb_point_type type)
{
    return (type == GDB_SOFTWARE_BREAK && s->knows_swbreak) ||
           (type == GDB_HARDWARE_BREAK && s->knows_hwbreak);
}

/* GDB compares breakpoints with rip, and would go on from one that it does not find there; in a
 * segment with a base it gets a plain SIGTRAP. */
static void reply_stop(struct gdb_session *s)
{
    static const char *const watches[GDB_POINT_TYPES] = {
        [GDB_WATCH_WRITE] = "watch", [GDB_WATCH_READ] = "rwatch", [GDB_WATCH_ACCESS] = "awatch"};
    const struct gdb_stop *stop = &s->stop;
    struct gdb_writer *w = gdb_reply(s);
    int signal = stop->crashed ? SIGNAL_SEGV : s->interrupted ? SIGNAL_INT : SIGNAL_TRAP;

    gdb_put(w, "T%02xthread:%x;", (unsigned)signal, stop->vcpu + 1);
    if (!stop->by_point)
        return;
    if (watches[stop->type])
        gdb_put(w, "%s:%llx;", watches[stop->type], (unsigned long long)stop->address);
    else if (knows(s, stop->type) && stop->address == s->stop_rip)
        gdb_put(w, "%s:;", stop->type == GDB_SOFTWARE_BREAK ? "swbreak" : "hwbreak");
}

static void tell_stop(struct gdb_session *s, const struct gdb_stop *stop)
{
    s->stop = *stop;
    s->thread = stop->vcpu;
    s->loaded = false;
    s->stop_rip = gdb_load(s) ? s->cpu.rip : 0;
    s->state = GDB_STOPPED;
    reply_stop(s);
    s->interrupted = false;
}

/* Which vCPUs stopped for a reason: the first is told, of the others what cannot happen again. */
static bool find_stops(struct gdb_session *s, struct gdb_stop *first)
{
    bool found = false;

    for (unsigned i = 0; i < s->target->cpus; i++) {
        struct gdb_stop stop = {.vcpu = i};
        int point;

        if (!s->target->stop_of(s->target->opaque, i, &point))
            continue;
        stop.crashed = point == GDB_STOP_CRASHED;
        if (point >= 0 && (unsigned)point < s->debug.count) {
            stop.by_point = true;
            stop.type = s->type[point];
            stop.address = s->debug.breakpoint[point].address;
        }
        if (!found)
            *first = stop;
        else if (stop.by_point && gdb_point_is_watch(stop.type))
            s->later[s->later_count++] = stop;
        found = true;
    }
    return found;
}

void gdb_session_held(struct gdb_session *s)
{
    static const bool all_go[PC_MAX_CPUS];
    struct gdb_stop stop = {.vcpu = s->thread};

    s->loaded = false;
    switch (s->state) {
    case GDB_ARRIVING: /* the client will ask why */
        gdb_describe_registers(s);
        s->state = GDB_STOPPED;
        break;
    case GDB_RUNNING:
        if (find_stops(s, &stop))
            s->interrupted = false;
        tell_stop(s, &stop);
        break;
    case GDB_LEAVING:
        gdb_points_clear(s);
        s->target->go(s->target->opaque, all_go);
        s->state = GDB_GONE;
        break;
    case GDB_STOPPED:
    case GDB_GONE:
        break;
    }
}

void gdb_session_interrupt(struct gdb_session *s)
{
    if (s->state != GDB_RUNNING)
        return;
    s->interrupted = true;
    s->target->hold(s->target->opaque);
}

void gdb_session_lost(struct gdb_session *s)
{
    if (s->state == GDB_GONE || s->state == GDB_LEAVING)
        return;
    s->state = GDB_LEAVING;
    if (s->target->is_held(s->target->opaque))
        gdb_session_held(s);
    else
        s->target->hold(s->target->opaque);
}

void gdb_session_vm_ended(struct gdb_session *s, int status)
{
    if (s->state == GDB_RUNNING)
        gdb_put(gdb_reply(s), "W%02x", (unsigned)status & 0xff);
    s->state = GDB_GONE;
}

/* ---- going on ---- */

enum action { STAY, CONTINUE, STEP };

/* A vCPU that stands before a breakpoint has told so, and now executes the instruction (RFLAGS.RF).
 * GDB itself steps over breakpoints, but it knows them by rip, not by linear address. */
static int pass_breakpoint(struct gdb_session *s, struct engine_vcpu *vcpu)
{
    const struct engine_ops *engine = s->target->engine;
    struct x86_vcpu_state *cpu = &s->cpu;
    int result = engine->get_state(vcpu, cpu, X86_STATE_GPR);

    if (result || cpu->rip != s->stop_rip)
        return result;
    cpu->rflags |= X86_FLAG_RF;
    return engine->set_state(vcpu, cpu, X86_STATE_GPR);
}

static bool start(struct gdb_session *s, const enum action *action)
{
    const struct gdb_target *t = s->target;
    bool stay[PC_MAX_CPUS] = {false};
    int result = 0;

    for (unsigned i = 0; i < t->cpus && !result; i++) {
        struct engine_vcpu *vcpu = t->vcpu(t->opaque, i);

        stay[i] = action[i] == STAY;
        s->debug.single_step = action[i] == STEP;
        result = t->engine->set_debug(vcpu, &s->debug);
        s->loaded = false;
        if (!result && s->stop.by_point && !gdb_point_is_watch(s->stop.type) && s->stop.vcpu == i)
            result = pass_breakpoint(s, vcpu);
    }
    s->debug.single_step = false;
    if (result)
        return false;
    s->stop.by_point = false;
    s->state = GDB_RUNNING;
    t->go(t->opaque, stay);
    return true;
}

static void resume(struct gdb_session *s, const enum action *action)
{
    while (s->later_count) {
        struct gdb_stop stop = s->later[--s->later_count];

        if (gdb_point_find(s, stop.type, stop.address)) {
            tell_stop(s, &stop);
            return;
        }
    }
    if (!start(s, action))
        gdb_reply_error(s, GDB_ERROR_REFUSED);
}

/* c, s, C and S, for all threads and the one that H chose; an address to go on at is not taken. */
static void resume_simple(struct gdb_session *s, bool step)
{
    enum action action[PC_MAX_CPUS];

    for (unsigned i = 0; i < s->target->cpus; i++)
        action[i] = CONTINUE;
    if (step)
        action[s->thread] = STEP;
    resume(s, action);
}

/* ";ACTION[:THREAD]...": the first action that names a thread is its own. */
static bool parse_vcont(struct gdb_session *s, const char *at, enum action *action)
{
    bool named[PC_MAX_CPUS] = {false};
    uint64_t number;

    while (gdb_take_char(&at, ';')) {
        bool with_signal = *at == 'C' || *at == 'S';
        enum action what = *at == 'c' || *at == 'C' ? CONTINUE : STEP;
        unsigned first = 0, end = s->target->cpus;

        if (!*at || !strchr("cCsS", *at++))
            return false;
        if (with_signal && !gdb_take_number(&at, &number))
            return false;
        if (gdb_take_char(&at, ':') && !gdb_take_text(&at, "-1")) {
            if (!gdb_take_number(&at, &number) || number > end)
                return false;
            if (number) {
                first = (unsigned)number - 1;
                end = (unsigned)number;
            }
        }
        for (unsigned i = first; i < end; i++) {
            if (!named[i])
                action[i] = what;
            named[i] = true;
        }
    }
    return !*at;
}

static void command_vcont(struct gdb_session *s, const char *at)
{
    enum action action[PC_MAX_CPUS] = {STAY};
    bool any = false;

    if (!parse_vcont(s, at, action)) {
        gdb_reply_error(s, GDB_ERROR_SYNTAX);
        return;
    }
    for (unsigned i = 0; i < s->target->cpus; i++)
        any |= action[i] != STAY;
    if (any)
        resume(s, action);
    else
        gdb_reply_error(s, GDB_ERROR_SYNTAX);
}

/* ---- packets ---- */

static void command_v(struct gdb_session *s, const char *at)
{
    if (!strcmp(at, "Cont?")) {
        gdb_put(gdb_reply(s), "vCont;c;C;s;S");
    } else if (gdb_take_text(&at, "Cont")) {
        command_vcont(s, at);
    } else if (gdb_take_text(&at, "Kill;")) {
        gdb_put(gdb_reply(s), "OK");
        s->target->quit(s->target->opaque);
    } else {
        gdb_reply(s); /* an empty one: not known */
    }
}

static void command_detach(struct gdb_session *s)
{
    gdb_put(gdb_reply(s), "OK");
    gdb_session_lost(s);
}

void gdb_session_packet(struct gdb_session *s, const char *data, size_t length)
{
    const char *at = data + 1;

    s->reply.length = 0;
    s->reply.overflow = false;
    switch (length ? data[0] : 0) {
    case '?':
        reply_stop(s);
        break;
    case 'c':
    case 'C':
        resume_simple(s, false);
        break;
    case 's':
    case 'S':
        resume_simple(s, true);
        break;
    case 'v':
        command_v(s, at);
        break;
    case 'D':
        command_detach(s);
        break;
    case 'k':
        s->target->quit(s->target->opaque);
        break;
    case 'Z':
    case 'z':
        gdb_command_point(s, data[0] == 'Z', at);
        break;
    default:
        gdb_command_inspect(s, data, length);
        break;
    }
    if (s->reply.overflow)
        gdb_reply_error(s, GDB_ERROR_SYNTAX);
}
