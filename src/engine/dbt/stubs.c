/*
 * The fixed pieces of host code at the start of the cache, through which C enters translated code
 * and translated code reaches C.
 *
 *     enter(vcpu, code)   an ordinary function: loads the guest's registers and jumps to `code`,
 *                         with TEMP0 = scratch[0]; returns when the code leaves
 *     stub_exit           jumped to with TEMP2 = an exit record: saves the registers and leaves
 *     stub_memory         jumped to with TEMP0 = linear address, insn_info = the access and
 *                         resume_offset: fills the TLB and goes on there with TEMP0 = host address
 *                         and all else unchanged, or leaves
 *     stub_pin            jumped to with TEMP0 = offset from the pinned page, pin_limit,
 *                         resume_offset and unpinned_offset: pins the page there and goes on at
 *                         the former, or if that cannot be at the latter
 *     stub_share_read     as stub_pin, with TEMP0 = linear address: gets the page into the TLB
 *     stub_share_write    the same for writes
 *     stub_leave          leaves with the registers already saved
 *     stub_lookup         jumps to the code at TEMP0 by the second jump cache table, or on to
 *     stub_lookup_direct  the same for a target that is part of the code
 *     stub_syscall, stub_sysret   see fastcall.c
 *     stub_miss           which leaves for the dispatcher to find the code at TEMP0
 *
 * The vector state is not touched here.
 */
#include <string.h>

#include "engine/dbt/dispatch.h"
#include "engine/dbt/translator.h"

/* Guest registers that live in host registers, but for rsp. */
static const uint8_t mapped[] = {X86_RAX, X86_RCX, X86_RDX, X86_RBX, X86_RBP, X86_RSI,
                                 X86_RDI, X86_R8,  X86_R9,  X86_R10, X86_R11};

static struct host_memory gpr_field(unsigned guest)
{
    struct host_memory m = VCPU_FIELD(gpr[0]);

    m.disp += (int32_t)(guest * sizeof(uint64_t));
    return m;
}

/* Puts the guest's registers into the vCPU and the host's stack in place. */
static void emit_save(struct emitter *e)
{
    emit_store(e, gpr_field(X86_RSP), HOST_RSP);
    emit_load(e, HOST_RSP, VCPU_FIELD(host_stack));
    emit_byte(e, 0x9c); /* pushfq */
    emit_pop_memory(e, VCPU_FIELD(flags_arith));
    for (unsigned i = 0; i < ARRAY_SIZE(mapped); i++)
        emit_store(e, gpr_field(mapped[i]), regmap_host(mapped[i]));
    emit_byte(e, 0xfc); /* cld, as C expects */
}

static void emit_restore(struct emitter *e)
{
    emit_push_memory(e, VCPU_FIELD(flags_arith));
    emit_byte(e, 0x9d); /* popfq */
    for (unsigned i = 0; i < ARRAY_SIZE(mapped); i++)
        emit_load(e, regmap_host(mapped[i]), gpr_field(mapped[i]));
    emit_load(e, PIN, VCPU_FIELD(pin_addend));
    emit_load(e, HOST_RSP, gpr_field(X86_RSP));
}

static const uint8_t callee_saved[] = {HOST_RBX, HOST_RBP, HOST_R12, HOST_R13, HOST_R14, HOST_R15};

static void emit_enter(struct emitter *e)
{
    for (unsigned i = 0; i < ARRAY_SIZE(callee_saved); i++)
        emit_push(e, callee_saved[i]);
    emit_push(e, HOST_RAX); /* alignment */
    emit_store(e, VCPU_FIELD(host_stack), HOST_RSP);
    emit_store(e, VCPU_FIELD(scratch[7]), HOST_RSI);
    emit_restore(e);
    emit_load(e, TEMP0, VCPU_FIELD(scratch[0]));
    emit_jmp_memory(e, VCPU_FIELD(scratch[7]));
}

static void emit_leave(struct emitter *e)
{
    emit_load(e, HOST_RSP, VCPU_FIELD(host_stack));
    emit_pop(e, HOST_RAX);
    for (unsigned i = ARRAY_SIZE(callee_saved); i-- > 0;)
        emit_pop(e, callee_saved[i]);
    emit_byte(e, 0xc3);
}

static void emit_call_c(struct emitter *e, const void *function)
{
    emit_mov_u64(e, HOST_RAX, (uint64_t)(uintptr_t)function);
    emit_op_register(e, false, 0xff, 2, HOST_RAX); /* call rax */
}

static void emit_memory(struct emitter *e, const uint8_t *leave)
{
    emit_save(e);
    emit_load(e, HOST_RDI, VCPU_FIELD(self));
    emit_mov(e, HOST_RSI, TEMP0);
    emit_call_c(e, (const void *)(uintptr_t)dispatch_memory);
    emit_op_register(e, true, 0x85, HOST_RAX, HOST_RAX); /* test rax, rax */

    uint8_t *failed = emit_jcc32(e, 4); /* je */

    emit_link(failed, leave);
    emit_mov(e, TEMP0, HOST_RAX);
    emit_restore(e);
    emit_jmp_memory(e, VCPU_FIELD(resume_code));
}

/* `function`(vCPU, TEMP0) says where to go on. */
static void emit_ask(struct emitter *e, const void *function)
{
    emit_save(e);
    emit_load(e, HOST_RDI, VCPU_FIELD(self));
    emit_mov(e, HOST_RSI, TEMP0);
    emit_call_c(e, function);
    emit_mov(e, TEMP0, HOST_RAX);
    emit_restore(e);
    emit_op_register(e, false, 0xff, 4, TEMP0); /* jmp TEMP0 */
}

/* To the dispatcher, with a record that outlives flushes. */
static void emit_jump_miss(struct emitter *e, const struct dbt_vm *vm)
{
    emit_mov_u32(e, TEMP2, CACHE_LOOKUP_RECORD);
    emit_jmp_to(e, vm->cache.rw + vm->stub_exit);
}

void stubs_emit(struct dbt_vm *vm)
{
    struct code_cache *cache = &vm->cache;
    struct emitter e = {.at = cache->rw, .end = cache->rw + GUEST_PAGE_SIZE};
    const uint8_t *enter = cache->rx;

    emit_enter(&e);
    emit_align(&e, 0, 16);
    vm->stub_exit = (uint32_t)(e.at - cache->rw);
    emit_save(&e);
    emit_store32(&e, VCPU_FIELD(insn_info), TEMP2);
    emit_store(&e, VCPU_FIELD(scratch[0]), TEMP0);
    vm->stub_leave = (uint32_t)(e.at - cache->rw);
    emit_leave(&e);
    emit_align(&e, 0, 16);
    vm->stub_memory = (uint32_t)(e.at - cache->rw);
    emit_memory(&e, cache->rw + vm->stub_leave);
    vm->stub_pin = (uint32_t)(e.at - cache->rw);
    emit_ask(&e, (const void *)(uintptr_t)dispatch_pin);
    vm->stub_share_read = (uint32_t)(e.at - cache->rw);
    emit_ask(&e, (const void *)(uintptr_t)dispatch_share_read);
    vm->stub_share_write = (uint32_t)(e.at - cache->rw);
    emit_ask(&e, (const void *)(uintptr_t)dispatch_share_write);
    vm->stub_miss = (uint32_t)(e.at - cache->rw);
    emit_jump_miss(&e, vm);
    for (unsigned slot = 0; slot < DBT_MODE_SLOTS; slot++) {
        vm->stub_lookup_direct[slot] = (uint32_t)(e.at - cache->rw);
        emit_store32_imm(&e, VCPU_FIELD(branch), 0);
        vm->stub_lookup[slot] = (uint32_t)(e.at - cache->rw);
        emit_link(transfer_emit_look_up(&e, 1, slot), cache->rw + vm->stub_miss);
    }
    fastcall_emit_stubs(&e, vm);
    cache->stubs_end = cache->used = (uint32_t)ALIGN_UP((uintptr_t)(e.at - cache->rw), 64);
    memcpy(&vm->enter, &enter, sizeof(vm->enter)); /* data to function pointer */
}
