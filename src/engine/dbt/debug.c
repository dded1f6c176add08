/* Single step and the debug registers; see debug.h. */
#include "engine/dbt/debug.h"

#include "engine/dbt/dispatch.h"
#include "engine/dbt/interrupt.h"
#include "x86/arch.h"

enum { TYPE_EXECUTE, TYPE_WRITE, TYPE_IO, TYPE_ACCESS };

static bool is_armed_data(const struct dbt_vcpu *v, unsigned n)
{
    unsigned type = X86_DR7_TYPE(v->dr7, n);

    return X86_DR7_ENABLED(v->dr7, n) && (type == TYPE_WRITE || type == TYPE_ACCESS);
}

static uint64_t length_of(const struct dbt_vcpu *v, unsigned n)
{
    static const uint8_t lengths[4] = {1, 2, 8, 4};

    return lengths[X86_DR7_LENGTH(v->dr7, n)];
}

void debug_update(struct dbt_vcpu *v)
{
    const struct engine_debug *wanted = &v->runtime->debugger.wanted;
    bool had = v->data_breakpoints;

    v->data_breakpoints = false;
    for (unsigned i = 0; i < wanted->count; i++)
        v->data_breakpoints |= wanted->breakpoint[i].kind != ENGINE_BREAK_EXECUTE;
    for (unsigned n = 0; n < 4; n++)
        v->data_breakpoints |= is_armed_data(v, n);
    if (had || v->data_breakpoints)
        mmu_flush(v, true);
}

bool debug_fetch(struct dbt_vcpu *v)
{
    uint64_t hits = 0;
    gva_t linear;

    if (!(v->mode & DBT_MODE_DEBUG) || (v->flags_sys & X86_FLAG_RF) ||
        !dispatch_linear_rip(v, &linear))
        return false;
    /* Behind MOV SS and POP SS only AMD's processors see instruction breakpoints. */
    if (v->shadow == DBT_SHADOW_SS && !v->vm->features.amd)
        return false;
    for (unsigned n = 0; n < 4; n++)
        if (X86_DR7_ENABLED(v->dr7, n) && X86_DR7_TYPE(v->dr7, n) == TYPE_EXECUTE &&
            v->dr[n] == linear)
            hits |= X86_DR6_B(n);
    if (!hits)
        return false;
    /* One exception reports what MOV SS held back as well; a second in its handler would use the
     * same stack where the gate names one. */
    interrupt_set_dr6(v, hits | v->debug_held);
    v->debug_held = 0;
    dbt_raise(v, X86_VECTOR_DB);
    return true;
}

bool debug_watches(const struct dbt_vcpu *v, gva_t address)
{
    for (unsigned n = 0; n < 4; n++)
        if (is_armed_data(v, n) && (v->dr[n] ^ address) < GUEST_PAGE_SIZE)
            return true;
    return debugger_watches(v, ALIGN_DOWN(address, GUEST_PAGE_SIZE));
}

void debug_access(struct dbt_vcpu *v, gva_t address, uint64_t size, bool write)
{
    for (unsigned n = 0; n < 4; n++) {
        uint64_t length = length_of(v, n), start = v->dr[n] & ~(length - 1);

        if (!is_armed_data(v, n) || (!write && X86_DR7_TYPE(v->dr7, n) == TYPE_WRITE))
            continue;
        if (address - start < length || start - address < size)
            v->debug_hits |= X86_DR6_B(n);
    }
    debugger_access(v, address, size, write);
}

struct debug_step debug_before(const struct dbt_vcpu *v)
{
    return (struct debug_step){
        .traced = v->mode & DBT_MODE_TF,
        .resume = v->flags_sys & X86_FLAG_RF,
        .rip = v->rip,
    };
}

static bool is_iret(uint16_t mnemonic)
{
    return mnemonic == ZYDIS_MNEMONIC_IRET || mnemonic == ZYDIS_MNEMONIC_IRETD ||
           mnemonic == ZYDIS_MNEMONIC_IRETQ;
}

/* Whether TF at the instruction's end decides: it enters a handler, or has had its trap. */
static bool traps_by_new_flags(uint16_t mnemonic)
{
    switch (mnemonic) {
    case ZYDIS_MNEMONIC_INT:
    case ZYDIS_MNEMONIC_INT1:
    case ZYDIS_MNEMONIC_INT3:
    case ZYDIS_MNEMONIC_INTO:
    case ZYDIS_MNEMONIC_SYSCALL:
    case ZYDIS_MNEMONIC_SYSRET:
    case ZYDIS_MNEMONIC_SYSENTER:
        return true;
    default:
        return false;
    }
}

void debug_after(struct dbt_vcpu *v, const struct debug_step *step, const struct insn *in_c)
{
    uint64_t reasons = v->debug_hits | v->debug_held;
    uint16_t mnemonic = in_c ? in_c->mnemonic : 0;

    v->debug_hits = 0;
    v->debug_held = 0;
    /* RF lasts for one instruction; IRET has just loaded the one it was asked to. A REP that will
     * go on keeps it. */
    if (step->resume && !is_iret(mnemonic) && v->rip != step->rip)
        v->flags_sys &= ~X86_FLAG_RF;
    if (step->traced && !(traps_by_new_flags(mnemonic) && !(v->flags_sys & X86_FLAG_TF)))
        reasons |= X86_DR6_BS;
    /* MOV SS and POP SS hold back debug traps as they hold back interrupts; a single step comes
     * again by itself. The trap of INT1 takes in what is held. */
    if (v->shadow == DBT_SHADOW_SS) {
        v->debug_held = reasons & ~X86_DR6_BS;
        return;
    }
    if (mnemonic == ZYDIS_MNEMONIC_INT1)
        return;
    if (reasons) {
        v->run_state = X86_RUNNABLE; /* HLT does not outlast a trap */
        interrupt_deliver_debug_trap(v, reasons);
    }
}
