/* The neutral vCPU state (x86/vcpu_state.h) to and from the engine's. Control thread, or the vCPU's
 * own; the vCPU is not inside translated code and its vector state is in memory. */
#include <string.h>

#include "engine/dbt/debug.h"
#include "engine/dbt/vm.h"
#include "x86/arch.h"

/* While time is held, the sets of all vCPUs are of one moment, so that their TSCs agree to the
 * tick. The paravirtual clock pairs the bootstrap processor's TSC with VM time. */
static void load_tsc(struct dbt_vcpu *v, uint64_t tsc)
{
    struct dbt_vm *vm = v->vm;

    v->tsc_offset = tsc - dbt_host_tsc(vm);
    if (v->index == 0)
        kvmclock_init(&vm->clock, vm->tsc_khz, tsc, clock_now(vm->config.clock));
}

void dbt_load_state(struct dbt_vcpu *v, const struct x86_vcpu_state *state, unsigned mask)
{
    if (mask & X86_STATE_GPR) {
        memcpy(v->gpr, state->gpr, sizeof(v->gpr));
        v->rip = state->rip;
        dbt_rflags_set(v, state->rflags);
    }
    if (mask & X86_STATE_SYSTEM) {
        memcpy(v->segment, state->segment, sizeof(v->segment));
        v->ldtr = state->ldtr;
        v->tr = state->tr;
        v->gdtr = state->gdtr;
        v->idtr = state->idtr;
        v->cr0 = state->cr0;
        v->cr2 = state->cr2;
        v->cr4 = state->cr4;
        v->efer = state->efer;
        mmu_set_cr3(v, state->cr3, false);
        mmu_flush(v, true);
    }
    if (mask & X86_STATE_FPU) {
        memcpy(v->xsave, state->xsave, DBT_XSAVE_SIZE);
        /* Only what xrstor64 in standard format accepts: components 0..2, no compaction. */
        uint64_t header[8] = {0};

        memcpy(header, v->xsave + 512, 8);
        header[0] &= 7;
        memcpy(v->xsave + 512, header, sizeof(header));
        uint32_t mxcsr;

        memcpy(&mxcsr, v->xsave + 24, 4);
        mxcsr &= 0xffff;
        memcpy(v->xsave + 24, &mxcsr, 4);
        /* No more than DBT_XSAVE_SIZE has room for. */
        dbt_set_xcr0(v, (state->xcr0 & (X86_XCR0_SSE | X86_XCR0_AVX)) | X86_XCR0_X87);
        v->simd_live = 0;
        x87_load(v);
    }
    if (mask & X86_STATE_DEBUG) {
        memcpy(v->dr, state->dr, sizeof(v->dr));
        v->dr6 = state->dr6;
        v->dr7 = state->dr7;
        debug_update(v);
    }
    if (mask & X86_STATE_MSR) {
        v->msr = state->msr;
        load_tsc(v, state->tsc);
        kvmclock_publish(&v->vm->clock, v->vm->config.memory, v->msr.kvm_system_time);
    }
    if (mask & X86_STATE_EVENTS) {
        v->exception = (struct dbt_exception){
            .pending = state->events.exception_pending,
            .vector = state->events.exception_vector,
            .has_error = state->events.exception_has_error,
            .error = state->events.exception_error,
            .address = state->cr2,
        };
        v->shadow = state->events.interrupt_shadow ? DBT_SHADOW_STI : DBT_SHADOW_NONE;
        v->runtime->taken_vector =
            state->events.interrupt_taken ? state->events.interrupt_vector : -1;
        atomic_store(&v->nmi_pending, state->events.nmi_pending);
        v->nmi_blocked = state->events.nmi_blocked;
        v->run_state = state->run_state;
    }
    dbt_forget_fast_calls(v);
    if (mask & (X86_STATE_GPR | X86_STATE_SYSTEM | X86_STATE_FPU | X86_STATE_DEBUG))
        mode_update(v);
}

void dbt_save_state(struct dbt_vcpu *v, struct x86_vcpu_state *state, unsigned mask)
{
    if (mask & X86_STATE_GPR) {
        memcpy(state->gpr, v->gpr, sizeof(v->gpr));
        state->rip = v->rip;
        state->rflags = dbt_rflags_get(v);
    }
    if (mask & X86_STATE_SYSTEM) {
        memcpy(state->segment, v->segment, sizeof(v->segment));
        state->ldtr = v->ldtr;
        state->tr = v->tr;
        state->gdtr = v->gdtr;
        state->idtr = v->idtr;
        state->cr0 = v->cr0;
        state->cr2 = v->cr2;
        state->cr3 = v->cr3;
        state->cr4 = v->cr4;
        state->cr8 = lapic_cr8_read(v->lapic);
        state->efer = v->efer;
    }
    if (mask & X86_STATE_FPU) {
        memset(state->xsave, 0, sizeof(state->xsave));
        memcpy(state->xsave, v->xsave, DBT_XSAVE_SIZE);
        state->xcr0 = v->xcr0;
    }
    if (mask & X86_STATE_DEBUG) {
        memcpy(state->dr, v->dr, sizeof(v->dr));
        state->dr6 = v->dr6;
        state->dr7 = v->dr7;
    }
    if (mask & X86_STATE_MSR) {
        state->msr = v->msr;
        state->tsc = dbt_tsc(v);
    }
    if (mask & X86_STATE_EVENTS) {
        state->events = (struct x86_events){
            .exception_pending = v->exception.pending,
            .exception_vector = v->exception.vector,
            .exception_has_error = v->exception.has_error,
            .exception_error = v->exception.error,
            .interrupt_shadow = v->shadow,
            .nmi_pending = atomic_load(&v->nmi_pending),
            .nmi_blocked = v->nmi_blocked,
        };
        state->run_state = v->run_state;
    }
}
