/*
 * System instructions that need no C: MOV from control registers, STAC and CLAC, STI, SWAPGS,
 * RDTSC, and PAUSE.
 */
#include "engine/dbt/translator.h"
#include "x86/arch.h"

void sysops_emit_cr_read(struct translator *t)
{
    struct host_memory field;

    switch (t->d->operand[1].reg.value) {
    case ZYDIS_REGISTER_CR0:
        field = VCPU_FIELD(cr0);
        break;
    case ZYDIS_REGISTER_CR2:
        field = VCPU_FIELD(cr2);
        break;
    case ZYDIS_REGISTER_CR3:
        field = VCPU_FIELD(cr3);
        break;
    default:
        field = VCPU_FIELD(cr4);
        break;
    }
    emit_load(&t->e, TEMP1, field);
    access_store_guest(t, decode_gpr_number(t->d->operand[0].reg.value), TEMP1);
}

/* STAC and CLAC. AC is known from the mode, and so is the mode that they lead to: the rest of the
 * block is translated for that. */
void sysops_emit_switch_ac(struct translator *t, bool on)
{
    uint32_t mode = t->mode ^ DBT_MODE_AC;
    struct emitter *e = &t->e;
    unsigned slot;

    if (on == !!(t->mode & DBT_MODE_AC))
        return;
    if (t->step || !dbt_mode_slot(t->vm, mode, &slot)) {
        translator_emit_in_c(t);
        return;
    }
    emit_load(e, TEMP1, VCPU_FIELD(flags_sys));
    emit_lea(e, TEMP1, host_at(TEMP1, on ? (int32_t)X86_FLAG_AC : -(int32_t)X86_FLAG_AC));
    emit_store(e, VCPU_FIELD(flags_sys), TEMP1);
    emit_store32_imm(e, VCPU_FIELD(mode), mode & ~(uint32_t)DBT_MODE_NO_PIN);
    t->mode = mode;
    t->slot = slot;
}

/* Interrupts on. Where one is waiting for that, or the next instruction (which must run before any
 * interrupt is taken) is not in this block, C does it; else there is nothing to see until the next
 * poll, which is behind the next instruction. */
void sysops_emit_sti(struct translator *t)
{
    struct emitter *e = &t->e;
    uint8_t *waiting, *done;

    if (t->d == &t->insn[t->count - 1]) {
        translator_emit_in_c(t);
        return;
    }
    if (t->flags_live) {
        emit_mov(e, TEMP2, HOST_RCX);
        emit_op_memory(e, false, 0x0fb6, HOST_RCX, VCPU_FIELD(interrupt_waiting)); /* movzx */
        emit_jrcxz(e, 3 + 5);
        emit_mov(e, HOST_RCX, TEMP2); /* 3 bytes */
        waiting = emit_jmp32(e);
        emit_mov(e, HOST_RCX, TEMP2);
    } else {
        emit_op_memory(e, false, 0x80, 7, VCPU_FIELD(interrupt_waiting)); /* cmp byte, 0 */
        emit_byte(e, 0);
        waiting = emit_jcc32(e, 5); /* jne */
    }
    emit_store8_imm(e, VCPU_FIELD(iflag), 1);
    done = emit_jmp32(e);
    if (!e->overflow)
        emit_link(waiting, e->at);
    translator_emit_in_c(t);
    if (!e->overflow)
        emit_link(done, e->at);
}

void sysops_emit_swapgs(struct translator *t)
{
    emit_load(&t->e, TEMP0, VCPU_FIELD(segment[X86_GS].base));
    emit_load(&t->e, TEMP1, VCPU_FIELD(msr.kernel_gs_base));
    emit_store(&t->e, VCPU_FIELD(msr.kernel_gs_base), TEMP0);
    emit_store(&t->e, VCPU_FIELD(segment[X86_GS].base), TEMP1);
}

/* rdx:rax = host TSC + offset, without touching flags. */
void sysops_emit_rdtsc(struct translator *t)
{
    struct emitter *e = &t->e;

    emit_byte(e, 0x0f);
    emit_byte(e, 0x31);
    emit_rorx(e, HOST_RDX, HOST_RDX, 32);
    emit_lea(e, HOST_RAX, (struct host_memory){.base = HOST_RAX, .index = HOST_RDX, .scale = 1});
    emit_load(e, HOST_RDX, VCPU_FIELD(tsc_offset));
    emit_lea(e, HOST_RAX, (struct host_memory){.base = HOST_RAX, .index = HOST_RDX, .scale = 1});
    emit_rorx(e, HOST_RDX, HOST_RAX, 32);
    emit_mov32(e, HOST_RDX, HOST_RDX);
    emit_mov32(e, HOST_RAX, HOST_RAX);
}

/* A guest that spins may be waiting for a vCPU whose thread the host does not run just now, because
 * this one spins: every so many times, leave to give way. */
void sysops_emit_pause(struct translator *t)
{
    struct emitter *e = &t->e;
    struct exit_record *record = translator_record(t, EXIT_YIELD, t->d->offset + t->d->z.length);
    uint8_t *more;

    emit_byte(e, 0xf3);
    emit_byte(e, 0x90);
    emit_mov(e, TEMP2, HOST_RCX);
    emit_load32(e, HOST_RCX, VCPU_FIELD(pauses));
    emit_lea32(e, HOST_RCX, host_at(HOST_RCX, -1));
    emit_store32(e, VCPU_FIELD(pauses), HOST_RCX);
    emit_jrcxz(e, 5);
    more = emit_jmp32(e);
    emit_mov(e, HOST_RCX, TEMP2);
    translator_emit_exit(t, record);
    if (!e->overflow)
        emit_link(more, e->at);
    emit_mov(e, HOST_RCX, TEMP2);
}
