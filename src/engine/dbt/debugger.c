/*
 * Breakpoints and single steps of a debugger outside of the guest; see debug.h.
 *
 * Code in a page with an execution breakpoint runs one instruction at a time and is in no jump
 * cache, so that the dispatcher sees each of them; jumps inside other pages never lead there. Core
 * code, on the vCPU's thread, but for debugger_update().
 */
#include "engine/dbt/debug.h"
#include "engine/dbt/dispatch.h"
#include "x86/arch.h"

void debugger_update(struct dbt_vcpu *v)
{
    struct dbt_debugger *d = &v->runtime->debugger;

    d->active = d->wanted.single_step || d->wanted.count;
    d->stop = DEBUGGER_GOES_ON;
    debug_update(v);
    dbt_jump_flush(v, true);
    /* Interrupts that a step left alone. */
    dbt_attend(v);
}

bool debugger_stops(struct dbt_vcpu *v)
{
    struct dbt_debugger *d = &v->runtime->debugger;
    gva_t linear = dbt_linear_of(v, v->rip);

    if (d->stop != DEBUGGER_GOES_ON)
        return true;
    if (v->flags_sys & X86_FLAG_RF)
        return false;
    for (unsigned i = 0; i < d->wanted.count; i++) {
        const struct engine_breakpoint *b = &d->wanted.breakpoint[i];

        if (b->kind == ENGINE_BREAK_EXECUTE && b->address == linear) {
            d->stop = (int)i;
            return true;
        }
    }
    return false;
}

bool debugger_wants_one(struct dbt_vcpu *v)
{
    const struct engine_debug *wanted = &v->runtime->debugger.wanted;
    gva_t linear = dbt_linear_of(v, v->rip);

    if (wanted->single_step)
        return true;
    for (unsigned i = 0; i < wanted->count; i++) {
        const struct engine_breakpoint *b = &wanted->breakpoint[i];

        if (b->kind == ENGINE_BREAK_EXECUTE && (b->address ^ linear) >> GUEST_PAGE_SHIFT == 0)
            return true;
    }
    return false;
}

void debugger_after(struct dbt_vcpu *v)
{
    struct dbt_debugger *d = &v->runtime->debugger;

    if (d->wanted.single_step && d->stop == DEBUGGER_GOES_ON)
        d->stop = ENGINE_STEPPED;
}

void debugger_undo(struct dbt_vcpu *v)
{
    v->runtime->debugger.stop = DEBUGGER_GOES_ON;
}

static bool is_data(const struct engine_breakpoint *b)
{
    return b->kind != ENGINE_BREAK_EXECUTE;
}

/* The length may be anything, and the sum go around. */
static bool overlap(gva_t a, uint64_t a_size, gva_t b, uint64_t b_size)
{
    return a - b < b_size || b - a < a_size;
}

bool debugger_watches(const struct dbt_vcpu *v, gva_t page)
{
    const struct engine_debug *wanted = &v->runtime->debugger.wanted;

    for (unsigned i = 0; i < wanted->count; i++) {
        const struct engine_breakpoint *b = &wanted->breakpoint[i];

        if (is_data(b) && overlap(page, GUEST_PAGE_SIZE, b->address, b->length))
            return true;
    }
    return false;
}

void debugger_access(struct dbt_vcpu *v, gva_t address, uint64_t size, bool write)
{
    struct dbt_debugger *d = &v->runtime->debugger;

    for (unsigned i = 0; i < d->wanted.count && d->stop < 0; i++) {
        const struct engine_breakpoint *b = &d->wanted.breakpoint[i];

        if (is_data(b) && (write || b->kind == ENGINE_BREAK_ACCESS) &&
            overlap(address, size, b->address, b->length))
            d->stop = (int)i;
    }
}
