/* The instructions that the software engine executes in C, in long mode: what a 64-bit kernel
 * needs. The other modes are in dbt_legacy_test.c, string instructions in dbt_string_test.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <cmocka.h>

#include "dbt_machine.h"
#include "engine/dbt/interrupt.h"
#include "x86/msr.h"

static struct dbt_vcpu *const v = &machine.v;

/* Non-canonical, and its opposite: the highest canonical half's first page. */
#define BAD_ADDRESS 0x0000800000000000ull
#define KERNEL_ADDRESS 0xffff800000001000ull

static void segment_loads_check_the_descriptor(void **state)
{
    machine_long();
    /* mov %eax, %ds */
    v->gpr[X86_RAX] = SEL_FREE;
    EXPECT_FAULT(X86_VECTOR_GP, SEL_FREE, 0x8e, 0xd8); /* no segment at all */
    machine_descriptor(SEL_FREE, 0x12345678, 0xfff, ACCESS_DATA & ~0x80, 0);
    EXPECT_FAULT(X86_VECTOR_NP, SEL_FREE, 0x8e, 0xd8);
    machine_descriptor(SEL_FREE, 0, 0xfff, ACCESS_CODE & ~2, FLAG_L);
    EXPECT_FAULT(X86_VECTOR_GP, SEL_FREE, 0x8e, 0xd8); /* execute-only */
    v->gpr[X86_RAX] = 0x100;
    EXPECT_FAULT(X86_VECTOR_GP, 0x100, 0x8e, 0xd8); /* outside the table */
    v->gpr[X86_RAX] = SEL_FREE | 4;
    v->ldtr.attributes = 0;
    EXPECT_FAULT(X86_VECTOR_GP, SEL_FREE | 4, 0x8e, 0xd8); /* no LDT */

    machine_descriptor(SEL_FREE, 0x12345678, 0xfffff, ACCESS_DATA & ~1, FLAG_G);
    v->gpr[X86_RAX] = SEL_FREE;
    assert_int_equal(EXECUTE(0x8e, 0xe0), DBT_NEXT); /* mov %eax, %fs */
    assert_int_equal(v->segment[X86_FS].selector, SEL_FREE);
    assert_int_equal(v->segment[X86_FS].base, 0x12345678);
    assert_int_equal(v->segment[X86_FS].limit, 0xffffffff);
    assert_int_equal(machine_peek(MACHINE_GDT + SEL_FREE + 5, 1), ACCESS_DATA); /* accessed */
    assert_int_equal(v->rip, MACHINE_CODE + 2);

    v->gpr[X86_RAX] = 3;
    assert_int_equal(EXECUTE(0x8e, 0xe0), DBT_NEXT);
    assert_int_equal(v->segment[X86_FS].selector, 3);
    assert_int_equal(v->segment[X86_FS].base, 0);
}

static void a_stack_segment_belongs_to_the_privilege_level(void **state)
{
    machine_long();
    v->gpr[X86_RAX] = SEL_DATA3;
    EXPECT_FAULT(X86_VECTOR_GP, SEL_DATA3 & ~3, 0x8e, 0xd0);
    v->gpr[X86_RAX] = SEL_CODE0;
    EXPECT_FAULT(X86_VECTOR_GP, SEL_CODE0, 0x8e, 0xd0);
    machine_descriptor(SEL_FREE, 0, 0xfff, ACCESS_DATA & ~0x80, 0);
    v->gpr[X86_RAX] = SEL_FREE;
    EXPECT_FAULT(X86_VECTOR_SS, SEL_FREE, 0x8e, 0xd0);
    v->gpr[X86_RAX] = 0;
    assert_int_equal(EXECUTE(0x8e, 0xd0), DBT_JUMP); /* null is fine in 64-bit kernel code */
    assert_int_equal(v->shadow, DBT_SHADOW_SS);
    assert_int_equal(dbt_cpl(v), 0);
    machine_user();
    v->gpr[X86_RAX] = 3;
    EXPECT_FAULT(X86_VECTOR_GP, 0, 0x8e, 0xd0);
}

static void mov_from_segment_has_the_operands_width(void **state)
{
    machine_long();
    v->gpr[X86_RAX] = ~0ull;
    assert_int_equal(EXECUTE(0x8c, 0xd8), DBT_NEXT); /* mov %ds, %eax */
    assert_int_equal(v->gpr[X86_RAX], SEL_DATA0);
    v->gpr[X86_RAX] = ~0ull;
    assert_int_equal(EXECUTE(0x66, 0x8c, 0xd8), DBT_NEXT);
    assert_int_equal(v->gpr[X86_RAX], 0xffffffffffff0000 | SEL_DATA0);
}

static void an_exception_from_user_code_switches_to_the_kernels_stack(void **state)
{
    machine_long();
    machine_user();
    dbt_rflags_set(v, 0x2 | X86_FLAG_IF | X86_FLAG_CF | X86_FLAG_TF | X86_FLAG_AC);
    mode_update(v);
    dbt_raise_error(v, X86_VECTOR_GP, 0x1234);
    interrupt_deliver_exception(v);
    assert_false(v->exception.pending);
    assert_int_equal(v->rip, MACHINE_HANDLER + 16 * X86_VECTOR_GP);
    assert_int_equal(v->segment[X86_CS].selector, SEL_CODE0);
    assert_int_equal(v->segment[X86_SS].selector, 0);
    assert_int_equal(dbt_cpl(v), 0);
    assert_true(v->mode & DBT_MODE_CODE64);
    assert_int_equal(v->gpr[X86_RSP], MACHINE_STACK0 - 48);
    assert_int_equal(machine_peek(MACHINE_STACK0 - 48, 8), 0x1234);
    assert_int_equal(machine_peek(MACHINE_STACK0 - 40, 8), MACHINE_CODE);
    assert_int_equal(machine_peek(MACHINE_STACK0 - 32, 8), SEL_CODE3);
    assert_int_equal(machine_peek(MACHINE_STACK0 - 24, 8),
                     0x2 | X86_FLAG_IF | X86_FLAG_CF | X86_FLAG_TF | X86_FLAG_AC | X86_FLAG_RF);
    assert_int_equal(machine_peek(MACHINE_STACK0 - 16, 8), MACHINE_STACK);
    assert_int_equal(machine_peek(MACHINE_STACK0 - 8, 8), SEL_DATA3);
    assert_int_equal(dbt_rflags_get(v), 0x2 | X86_FLAG_CF | X86_FLAG_AC);
    assert_false(v->mode & DBT_MODE_TF);
}

static void an_interrupt_in_the_kernel_aligns_the_stack(void **state)
{
    machine_long();
    v->gpr[X86_RSP] = MACHINE_STACK - 3;
    v->shadow = 1;
    machine_gate(32, X86_TYPE_TRAP_GATE, 0, SEL_CODE0, MACHINE_HANDLER, 0);
    dbt_rflags_set(v, 0x2 | X86_FLAG_IF);
    interrupt_deliver_external(v, 32);
    assert_int_equal(v->gpr[X86_RSP], MACHINE_STACK - 16 - 40);
    assert_int_equal(machine_peek(MACHINE_STACK - 16 - 16, 8), MACHINE_STACK - 3);
    assert_int_equal(machine_peek(MACHINE_STACK - 16 - 24, 8), 0x2 | X86_FLAG_IF);
    assert_int_equal(v->segment[X86_SS].selector, SEL_DATA0);
    assert_int_equal(v->iflag, 1); /* a trap gate */
    assert_int_equal(v->shadow, 0);
}

static void an_interrupt_stack_is_used_whatever_the_level(void **state)
{
    machine_long();
    machine_gate(X86_VECTOR_NMI, X86_TYPE_INTERRUPT_GATE, 0, SEL_CODE0, MACHINE_HANDLER, 1);
    interrupt_deliver_external(v, X86_VECTOR_NMI);
    assert_true(v->nmi_blocked);
    assert_int_equal(v->gpr[X86_RSP], MACHINE_IST - 40);
    assert_int_equal(v->segment[X86_SS].selector, SEL_DATA0);
    assert_int_equal(EXECUTE(0x48, 0xcf), DBT_JUMP); /* iretq */
    assert_false(v->nmi_blocked);
    assert_int_equal(v->gpr[X86_RSP], MACHINE_STACK);
    assert_int_equal(v->rip, MACHINE_CODE);
}

static void a_fault_on_the_way_becomes_a_double_and_then_a_triple_fault(void **state)
{
    machine_long();
    machine_gate(X86_VECTOR_DF, X86_TYPE_INTERRUPT_GATE, 0, SEL_CODE0, MACHINE_HANDLER, 1);
    machine.absent[(MACHINE_STACK - 1) >> GUEST_PAGE_SHIFT] = true;
    v->exception = (struct dbt_exception){
        .pending = true, .vector = X86_VECTOR_PF, .has_error = true, .address = 0x777};
    interrupt_deliver_exception(v);
    assert_false(v->shutdown);
    assert_int_equal(v->rip, MACHINE_HANDLER);
    assert_int_equal(v->gpr[X86_RSP], MACHINE_IST - 48);
    assert_int_equal(machine_peek(MACHINE_IST - 48, 8), 0); /* #DF's error code */
    assert_int_equal(machine_peek(MACHINE_IST - 40, 8), MACHINE_CODE);

    machine_long();
    machine.absent[(MACHINE_STACK - 1) >> GUEST_PAGE_SHIFT] = true;
    dbt_raise_error(v, X86_VECTOR_GP, 0);
    interrupt_deliver_exception(v);
    assert_true(v->shutdown);
}

static void a_benign_first_fault_gives_way_to_the_second(void **state)
{
    machine_long();
    machine_gate(X86_VECTOR_PF, X86_TYPE_INTERRUPT_GATE, 0, SEL_CODE0, MACHINE_HANDLER, 1);
    machine.absent[(MACHINE_STACK - 1) >> GUEST_PAGE_SHIFT] = true;
    dbt_raise(v, X86_VECTOR_UD);
    interrupt_deliver_exception(v);
    assert_int_equal(v->rip, MACHINE_HANDLER);
    assert_int_equal(v->cr2, MACHINE_STACK - 40);
}

static void software_interrupts_need_the_gates_permission(void **state)
{
    machine_long();
    machine_user();
    EXPECT_FAULT(X86_VECTOR_GP, 0x20 * 8 + 2, 0xcd, 0x20);
    EXPECT_FAULT(X86_VECTOR_GP, X86_VECTOR_BP * 8 + 2, 0xcc);
    machine_gate(0x20, X86_TYPE_INTERRUPT_GATE, 3, SEL_CODE0, MACHINE_HANDLER, 0);
    assert_int_equal(EXECUTE(0xcd, 0x20), DBT_JUMP);
    assert_int_equal(v->rip, MACHINE_HANDLER);
    assert_int_equal(machine_peek(MACHINE_STACK0 - 40, 8), MACHINE_CODE + 2);
    /* A vector beyond the limit, and an external event's EXT bit for an absent gate. */
    machine_long();
    v->idtr.limit = 0x1f * 16 - 1;
    EXPECT_FAULT(X86_VECTOR_GP, 0x20 * 8 + 2, 0xcd, 0x20);
    machine_gate(0x1e, X86_TYPE_INTERRUPT_GATE, 0, SEL_CODE0, 0, 0);
    machine_poke(MACHINE_IDT + 0x1e * 16 + 5, 1, 0x0e);
    interrupt_deliver_external(v, 0x1e);
    assert_int_equal(v->rip, MACHINE_HANDLER + 16 * X86_VECTOR_NP);
    assert_int_equal(machine_peek(MACHINE_STACK - 48, 8), 0x1e * 8 + 3);
}

static void push_frame(uint64_t rip, uint64_t cs, uint64_t flags, uint64_t rsp, uint64_t ss)
{
    const uint64_t frame[] = {rip, cs, flags, rsp, ss};

    for (unsigned i = 0; i < 5; i++)
        machine_poke(MACHINE_STACK - 40 + 8 * i, 8, frame[i]);
    v->gpr[X86_RSP] = MACHINE_STACK - 40;
}

static void iretq_returns_to_user_code(void **state)
{
    machine_long();
    push_frame(0x400000, SEL_CODE3, 0x2 | X86_FLAG_IF | X86_FLAG_ZF | X86_FLAG_ID, 0x7000,
               SEL_DATA3);
    assert_int_equal(EXECUTE(0x48, 0xcf), DBT_JUMP);
    assert_int_equal(v->rip, 0x400000);
    assert_int_equal(v->gpr[X86_RSP], 0x7000);
    assert_int_equal(dbt_cpl(v), 3);
    assert_int_equal(v->segment[X86_SS].selector, SEL_DATA3);
    assert_int_equal(dbt_rflags_get(v), 0x2 | X86_FLAG_IF | X86_FLAG_ZF | X86_FLAG_ID);
    /* The kernel's data segments do not survive, user ones do. */
    assert_int_equal(v->segment[X86_DS].selector, 0);
    assert_int_equal(v->segment[X86_GS].selector, 0);
}

static void iretq_refuses_bad_frames(void **state)
{
    machine_long();
    push_frame(BAD_ADDRESS, SEL_CODE3, 2, 0x7000, SEL_DATA3);
    EXPECT_FAULT(X86_VECTOR_GP, 0, 0x48, 0xcf);
    push_frame(0x400000, SEL_DATA0, 2, 0x7000, SEL_DATA0);
    EXPECT_FAULT(X86_VECTOR_GP, SEL_DATA0, 0x48, 0xcf);
    push_frame(0x400000, 0, 2, 0x7000, SEL_DATA0);
    EXPECT_FAULT(X86_VECTOR_GP, 0, 0x48, 0xcf);
    push_frame(0x400000, SEL_CODE3, 2, 0x7000, SEL_DATA0);
    EXPECT_FAULT(X86_VECTOR_GP, SEL_DATA0, 0x48, 0xcf);
    push_frame(0x400000, SEL_CODE3, 2, 0x7000, 3);
    EXPECT_FAULT(X86_VECTOR_GP, 0, 0x48, 0xcf);
    push_frame(0x400000, SEL_CODE0, 2, 0x7000, SEL_DATA0);
    v->flags_sys |= X86_FLAG_NT;
    EXPECT_FAULT(X86_VECTOR_GP, 0, 0x48, 0xcf);
    v->flags_sys &= ~X86_FLAG_NT;
    machine.absent[(MACHINE_STACK - 1) >> GUEST_PAGE_SHIFT] = true;
    EXPECT_FAULT(X86_VECTOR_PF, 0, 0x48, 0xcf);
    machine_long();
    machine_user();
    push_frame(0x400000, SEL_CODE0, 2, 0x7000, SEL_DATA0);
    EXPECT_FAULT(X86_VECTOR_GP, SEL_CODE0, 0x48, 0xcf);
}

static void iretq_to_a_null_stack_and_to_compatibility_mode(void **state)
{
    machine_long();
    push_frame(KERNEL_ADDRESS, SEL_CODE0, 2, KERNEL_ADDRESS, 0);
    assert_int_equal(EXECUTE(0x48, 0xcf), DBT_JUMP);
    assert_int_equal(v->rip, KERNEL_ADDRESS);
    assert_int_equal(v->gpr[X86_RSP], KERNEL_ADDRESS);
    assert_int_equal(dbt_cpl(v), 0);

    machine_long();
    push_frame(0x400000, SEL_CODE3_32, 2, 0x7000, SEL_DATA3);
    assert_int_equal(EXECUTE(0x48, 0xcf), DBT_JUMP);
    assert_int_equal(v->mode &
                         (DBT_MODE_LMA | DBT_MODE_CODE64 | DBT_MODE_CODE32 | DBT_MODE_STACK32),
                     DBT_MODE_LMA | DBT_MODE_CODE32 | DBT_MODE_STACK32);

    /* A 16-bit stack segment takes 16 bits of the popped pointer. */
    machine_long();
    machine_descriptor(SEL_FREE, 0, 0xffff, ACCESS_DATA | ACCESS_DPL3, 0);
    push_frame(0x400000, SEL_CODE3_32, 2, 0x12347000, SEL_FREE | 3);
    assert_int_equal(EXECUTE(0x48, 0xcf), DBT_JUMP);
    assert_int_equal(v->gpr[X86_RSP], 0x7000);
}

static void syscall_and_sysret_are_inverse(void **state)
{
    machine_long();
    machine_user();
    v->msr.star = (uint64_t)(SEL_CODE3_32) << 48 | (uint64_t)SEL_CODE0 << 32;
    v->msr.lstar = KERNEL_ADDRESS;
    v->msr.sfmask = X86_FLAG_IF | X86_FLAG_TF | X86_FLAG_DF;
    dbt_rflags_set(v, 0x2 | X86_FLAG_IF | X86_FLAG_DF | X86_FLAG_CF);
    assert_int_equal(EXECUTE(0x0f, 0x05), DBT_JUMP);
    assert_int_equal(v->rip, KERNEL_ADDRESS);
    assert_int_equal(v->gpr[X86_RCX], MACHINE_CODE + 2);
    assert_int_equal(v->gpr[X86_R11], 0x2 | X86_FLAG_IF | X86_FLAG_DF | X86_FLAG_CF);
    assert_int_equal(dbt_rflags_get(v), 0x2 | X86_FLAG_CF);
    assert_int_equal(dbt_cpl(v), 0);
    assert_int_equal(v->segment[X86_SS].selector, SEL_DATA0);
    assert_int_equal(v->gpr[X86_RSP], MACHINE_STACK);

    assert_int_equal(EXECUTE(0x48, 0x0f, 0x07), DBT_JUMP); /* sysretq */
    assert_int_equal(v->rip, MACHINE_CODE + 2);
    assert_int_equal(v->segment[X86_CS].selector, SEL_CODE3);
    assert_int_equal(v->segment[X86_SS].selector, SEL_DATA3);
    assert_int_equal(dbt_cpl(v), 3);
    assert_true(v->mode & DBT_MODE_CODE64);
    assert_int_equal(dbt_rflags_get(v), 0x2 | X86_FLAG_IF | X86_FLAG_DF | X86_FLAG_CF);

    EXPECT_FAULT(X86_VECTOR_GP, 0, 0x48, 0x0f, 0x07);
    machine_long();
    v->gpr[X86_RCX] = BAD_ADDRESS;
    EXPECT_FAULT(X86_VECTOR_GP, 0, 0x48, 0x0f, 0x07);
    v->efer &= ~X86_EFER_SCE;
    EXPECT_FAULT(X86_VECTOR_UD, 0, 0x0f, 0x05);
}

static void sysenter_and_sysexit(void **state)
{
    machine_long();
    machine_user();
    EXPECT_FAULT(X86_VECTOR_GP, 0, 0x0f, 0x34); /* no SYSENTER_CS */
    v->msr.sysenter_cs = SEL_CODE0;
    v->msr.sysenter_eip = KERNEL_ADDRESS;
    v->msr.sysenter_esp = MACHINE_STACK0;
    assert_int_equal(EXECUTE(0x0f, 0x34), DBT_JUMP);
    assert_int_equal(v->rip, KERNEL_ADDRESS);
    assert_int_equal(v->gpr[X86_RSP], MACHINE_STACK0);
    assert_int_equal(dbt_cpl(v), 0);
    v->gpr[X86_RDX] = 0x400000;
    v->gpr[X86_RCX] = 0x7000;
    assert_int_equal(EXECUTE(0x48, 0x0f, 0x35), DBT_JUMP);
    assert_int_equal(v->rip, 0x400000);
    assert_int_equal(v->segment[X86_CS].selector, (SEL_CODE0 + 32) | 3);
    assert_int_equal(dbt_cpl(v), 3);
}

static void far_returns_change_code_segments(void **state)
{
    machine_long();
    machine_poke(MACHINE_STACK - 16, 8, KERNEL_ADDRESS);
    machine_poke(MACHINE_STACK - 8, 8, SEL_CODE0);
    v->gpr[X86_RSP] = MACHINE_STACK - 16;
    assert_int_equal(EXECUTE(0x48, 0xcb), DBT_JUMP); /* lretq */
    assert_int_equal(v->rip, KERNEL_ADDRESS);
    assert_int_equal(v->gpr[X86_RSP], MACHINE_STACK);

    /* jmp far *(%rax) with a 32-bit offset, to a code segment with both L and D */
    machine_long();
    v->gpr[X86_RAX] = MACHINE_DATA;
    machine_poke(MACHINE_DATA, 4, 0x9000);
    machine_poke(MACHINE_DATA + 4, 2, SEL_FREE);
    machine_descriptor(SEL_FREE, 0, 0xfffff, ACCESS_CODE, FLAG_L | FLAG_DB);
    EXPECT_FAULT(X86_VECTOR_GP, SEL_FREE, 0xff, 0x28);
    machine_descriptor(SEL_FREE, 0, 0xfffff, ACCESS_CODE, FLAG_G | FLAG_DB);
    assert_int_equal(EXECUTE(0xff, 0x28), DBT_JUMP);
    assert_int_equal(v->rip, 0x9000);
    assert_true(v->mode & DBT_MODE_CODE32);
    assert_false(v->mode & DBT_MODE_CODE64);
}

static void a_call_gate_leads_to_the_kernel_and_back(void **state)
{
    uint64_t gate = MACHINE_GDT + SEL_FREE;

    machine_long();
    machine_user();
    machine_poke(gate, 8, 0xe000 | (uint64_t)SEL_CODE0 << 16 | 0xecull << 40);
    machine_poke(gate + 8, 8, 0xffff8000);
    v->gpr[X86_RAX] = MACHINE_DATA;
    machine_poke(MACHINE_DATA + 4, 2, SEL_FREE | 3);
    assert_int_equal(EXECUTE(0xff, 0x18), DBT_JUMP); /* lcall *(%rax) */
    assert_int_equal(v->rip, 0xffff80000000e000);
    assert_int_equal(dbt_cpl(v), 0);
    assert_int_equal(v->gpr[X86_RSP], MACHINE_STACK0 - 32);
    assert_int_equal(machine_peek(MACHINE_STACK0 - 32, 8), MACHINE_CODE + 2);
    assert_int_equal(machine_peek(MACHINE_STACK0 - 24, 8), SEL_CODE3);
    assert_int_equal(machine_peek(MACHINE_STACK0 - 16, 8), MACHINE_STACK);
    assert_int_equal(machine_peek(MACHINE_STACK0 - 8, 8), SEL_DATA3);
    assert_int_equal(EXECUTE(0x48, 0xcb), DBT_JUMP);
    assert_int_equal(v->rip, MACHINE_CODE + 2);
    assert_int_equal(dbt_cpl(v), 3);
    assert_int_equal(v->gpr[X86_RSP], MACHINE_STACK);
}

static void privileged_instructions_fault_in_user_code(void **state)
{
    machine_long();
    machine_user();
    EXPECT_FAULT(X86_VECTOR_GP, 0, 0xf4);                         /* hlt */
    EXPECT_FAULT(X86_VECTOR_GP, 0, 0x0f, 0x22, 0xd8);             /* mov %rax, %cr3 */
    EXPECT_FAULT(X86_VECTOR_GP, 0, 0x0f, 0x20, 0xc0);             /* mov %cr0, %rax */
    EXPECT_FAULT(X86_VECTOR_GP, 0, 0x0f, 0x21, 0xf8);             /* mov %dr7, %rax */
    EXPECT_FAULT(X86_VECTOR_GP, 0, 0x0f, 0x30);                   /* wrmsr */
    EXPECT_FAULT(X86_VECTOR_GP, 0, 0x0f, 0x32);                   /* rdmsr */
    EXPECT_FAULT(X86_VECTOR_GP, 0, 0x0f, 0x01, 0xf8);             /* swapgs */
    EXPECT_FAULT(X86_VECTOR_GP, 0, 0x0f, 0x01, 0x10);             /* lgdt */
    EXPECT_FAULT(X86_VECTOR_GP, 0, 0x0f, 0x00, 0xd8);             /* ltr */
    EXPECT_FAULT(X86_VECTOR_GP, 0, 0x0f, 0x01, 0x38);             /* invlpg */
    EXPECT_FAULT(X86_VECTOR_GP, 0, 0x66, 0x0f, 0x38, 0x82, 0x08); /* invpcid */
    EXPECT_FAULT(X86_VECTOR_GP, 0, 0x0f, 0x09);                   /* wbinvd */
    EXPECT_FAULT(X86_VECTOR_GP, 0, 0x0f, 0x06);                   /* clts */
    EXPECT_FAULT(X86_VECTOR_GP, 0, 0xfa);                         /* cli */
    EXPECT_FAULT(X86_VECTOR_GP, 0, 0xfb);                         /* sti */
    EXPECT_FAULT(X86_VECTOR_UD, 0, 0x0f, 0x01, 0xca);             /* clac */
    EXPECT_FAULT(X86_VECTOR_UD, 0, 0x0f, 0x0b);                   /* ud2 */
    v->cr4 |= X86_CR4_UMIP | X86_CR4_TSD;
    EXPECT_FAULT(X86_VECTOR_GP, 0, 0x0f, 0x01, 0x00); /* sgdt */
    EXPECT_FAULT(X86_VECTOR_GP, 0, 0x0f, 0x00, 0xc8); /* str */
    EXPECT_FAULT(X86_VECTOR_GP, 0, 0x0f, 0x31);       /* rdtsc */
}

static void control_registers_refuse_impossible_values(void **state)
{
    machine_long();
    v->gpr[X86_RAX] = v->cr0 & ~X86_CR0_PG;
    EXPECT_FAULT(X86_VECTOR_GP, 0, 0x0f, 0x22, 0xc0); /* leaving paging in 64-bit code */
    v->gpr[X86_RAX] = v->cr0 & ~X86_CR0_PE;
    EXPECT_FAULT(X86_VECTOR_GP, 0, 0x0f, 0x22, 0xc0);
    v->gpr[X86_RAX] = v->cr0 | X86_CR0_NW;
    EXPECT_FAULT(X86_VECTOR_GP, 0, 0x0f, 0x22, 0xc0);
    v->gpr[X86_RAX] = v->cr0 | 1ull << 32;
    EXPECT_FAULT(X86_VECTOR_GP, 0, 0x0f, 0x22, 0xc0);
    v->gpr[X86_RAX] = 1ull << 40;
    EXPECT_FAULT(X86_VECTOR_GP, 0, 0x0f, 0x22, 0xd8); /* CR3 beyond the address width */
    v->gpr[X86_RAX] = X86_CR3_NO_FLUSH;
    EXPECT_FAULT(X86_VECTOR_GP, 0, 0x0f, 0x22, 0xd8); /* PCIDs are off */
    v->gpr[X86_RAX] = 0;
    EXPECT_FAULT(X86_VECTOR_GP, 0, 0x0f, 0x22, 0xe0); /* long mode without PAE */
    v->gpr[X86_RAX] = v->cr4 | X86_CR4_VMXE;
    EXPECT_FAULT(X86_VECTOR_GP, 0, 0x0f, 0x22, 0xe0);
    v->cr3 = 5;
    v->gpr[X86_RAX] = v->cr4 | X86_CR4_PCIDE;
    EXPECT_FAULT(X86_VECTOR_GP, 0, 0x0f, 0x22, 0xe0);
    v->gpr[X86_RAX] = 16;
    EXPECT_FAULT(X86_VECTOR_GP, 0, 0x44, 0x0f, 0x22, 0xc0); /* CR8 */

    v->cr3 = 0;
    v->gpr[X86_RAX] = v->cr4 | X86_CR4_PCIDE | X86_CR4_SMEP;
    assert_int_equal(EXECUTE(0x0f, 0x22, 0xe0), DBT_JUMP);
    assert_int_equal(machine.flushes, 1);
    v->gpr[X86_RAX] = X86_CR3_NO_FLUSH | 0x1005;
    assert_int_equal(EXECUTE(0x0f, 0x22, 0xd8), DBT_JUMP);
    assert_int_equal(v->cr3, 0x1005);
    v->gpr[X86_RAX] = v->cr0 | X86_CR0_TS;
    assert_int_equal(EXECUTE(0x0f, 0x22, 0xc0), DBT_JUMP);
    assert_int_equal(v->mode & (DBT_MODE_NO_X87 | DBT_MODE_NO_SSE | DBT_MODE_NO_AVX),
                     DBT_MODE_NO_X87 | DBT_MODE_NO_SSE | DBT_MODE_NO_AVX);
    assert_int_equal(EXECUTE(0x0f, 0x06), DBT_JUMP); /* clts */
    assert_false(v->mode & DBT_MODE_NO_X87);
    assert_int_equal(EXECUTE(0x0f, 0x06), DBT_NEXT);
}

static enum dbt_result wrmsr(uint32_t index, uint64_t value)
{
    v->gpr[X86_RCX] = index;
    v->gpr[X86_RAX] = (uint32_t)value;
    v->gpr[X86_RDX] = value >> 32;
    return EXECUTE(0x0f, 0x30);
}

static void model_specific_registers(void **state)
{
    machine_long();
    assert_int_equal(wrmsr(MSR_LSTAR, BAD_ADDRESS), DBT_FAULT);
    assert_int_equal(v->exception.vector, X86_VECTOR_GP);
    assert_int_equal(wrmsr(MSR_LSTAR, KERNEL_ADDRESS), DBT_NEXT);
    assert_int_equal(v->msr.lstar, KERNEL_ADDRESS);
    assert_int_equal(wrmsr(MSR_FS_BASE, BAD_ADDRESS), DBT_FAULT);
    assert_int_equal(wrmsr(MSR_GS_BASE, KERNEL_ADDRESS), DBT_NEXT);
    assert_int_equal(wrmsr(MSR_KERNEL_GS_BASE, 0x1234), DBT_NEXT);
    assert_int_equal(EXECUTE(0x0f, 0x01, 0xf8), DBT_NEXT); /* swapgs */
    assert_int_equal(v->segment[X86_GS].base, 0x1234);
    assert_int_equal(v->msr.kernel_gs_base, KERNEL_ADDRESS);
    assert_int_equal(wrmsr(MSR_PAT, 2), DBT_FAULT);
    assert_int_equal(wrmsr(MSR_PAT, X86_PAT_RESET), DBT_NEXT);
    assert_int_equal(wrmsr(MSR_EFER, v->efer & ~X86_EFER_LME), DBT_FAULT);
    assert_int_equal(wrmsr(MSR_EFER, X86_EFER_SVME | v->efer), DBT_FAULT);
    assert_int_equal(wrmsr(MSR_EFER, X86_EFER_NXE | X86_EFER_LME), DBT_JUMP);
    assert_int_equal(v->efer, X86_EFER_NXE | X86_EFER_LME | X86_EFER_LMA);
    assert_int_equal(wrmsr(MSR_MTRR_PHYS_MASK(7), 0x800), DBT_NEXT);
    assert_int_equal(v->msr.mtrr_mask[7], 0x800);
    assert_int_equal(wrmsr(0x12345, 0), DBT_FAULT);
    assert_int_equal(wrmsr(MSR_TSC, dbt_tsc(v) + 100), DBT_JUMP);
    assert_int_equal(v->tsc_offset, 100);

    v->gpr[X86_RCX] = MSR_EFER;
    assert_int_equal(EXECUTE(0x0f, 0x32), DBT_NEXT);
    assert_int_equal(v->gpr[X86_RAX], X86_EFER_NXE | X86_EFER_LME | X86_EFER_LMA);
    assert_int_equal(v->gpr[X86_RDX], 0);
}

static void bases_of_fs_and_gs(void **state)
{
    machine_long();
    v->gpr[X86_RAX] = BAD_ADDRESS;
    EXPECT_FAULT(X86_VECTOR_UD, 0, 0xf3, 0x48, 0x0f, 0xae, 0xd0); /* wrfsbase, CR4 says no */
    v->cr4 |= X86_CR4_FSGSBASE;
    EXPECT_FAULT(X86_VECTOR_GP, 0, 0xf3, 0x48, 0x0f, 0xae, 0xd0);
    v->gpr[X86_RAX] = KERNEL_ADDRESS;
    assert_int_equal(EXECUTE(0xf3, 0x48, 0x0f, 0xae, 0xd8), DBT_NEXT); /* wrgsbase */
    assert_int_equal(v->segment[X86_GS].base, KERNEL_ADDRESS);
    assert_int_equal(EXECUTE(0xf3, 0x0f, 0xae, 0xc9), DBT_NEXT); /* rdgsbase %ecx */
    assert_int_equal(v->gpr[X86_RCX], (uint32_t)KERNEL_ADDRESS);
}

static void descriptor_tables(void **state)
{
    machine_long();
    v->gpr[X86_RAX] = MACHINE_DATA;
    machine_poke(MACHINE_DATA, 2, 0x7f);
    machine_poke(MACHINE_DATA + 2, 8, BAD_ADDRESS);
    EXPECT_FAULT(X86_VECTOR_GP, 0, 0x0f, 0x01, 0x10);
    machine_poke(MACHINE_DATA + 2, 8, KERNEL_ADDRESS);
    assert_int_equal(EXECUTE(0x0f, 0x01, 0x18), DBT_NEXT); /* lidt (%rax) */
    assert_int_equal(v->idtr.base, KERNEL_ADDRESS);
    assert_int_equal(v->idtr.limit, 0x7f);
    assert_int_equal(EXECUTE(0x0f, 0x01, 0x40, 0x20), DBT_NEXT); /* sgdt 32(%rax) */
    assert_int_equal(machine_peek(MACHINE_DATA + 0x20, 2), 0xff);
    assert_int_equal(machine_peek(MACHINE_DATA + 0x22, 8), MACHINE_GDT);

    v->gpr[X86_RAX] = SEL_TSS;
    EXPECT_FAULT(X86_VECTOR_GP, SEL_TSS, 0x0f, 0x00, 0xd8); /* ltr of a busy TSS */
    machine_descriptor(SEL_TSS, MACHINE_TSS, 0x67, ACCESS_TSS, 0);
    machine_poke(MACHINE_GDT + SEL_TSS + 8, 8, 0xffff8000);
    assert_int_equal(EXECUTE(0x0f, 0x00, 0xd8), DBT_NEXT);
    assert_int_equal(v->tr.base, 0xffff800000000000 | MACHINE_TSS);
    assert_int_equal(machine_peek(MACHINE_GDT + SEL_TSS + 5, 1), ACCESS_TSS | 2);
    v->gpr[X86_RAX] = 0;
    EXPECT_FAULT(X86_VECTOR_GP, 0, 0x0f, 0x00, 0xd8);
    assert_int_equal(EXECUTE(0x0f, 0x00, 0xd0), DBT_NEXT); /* lldt of null */
    assert_false(v->ldtr.attributes & X86_SEGMENT_PRESENT);

    v->gpr[X86_RCX] = SEL_DATA3;
    assert_int_equal(EXECUTE(0x0f, 0x03, 0xc1), DBT_NEXT); /* lsl %ecx, %eax */
    assert_int_equal(v->gpr[X86_RAX], 0xffffffff);
    assert_true(v->flags_arith & X86_FLAG_ZF);
    assert_int_equal(EXECUTE(0x0f, 0x02, 0xc1), DBT_NEXT); /* lar %ecx, %eax */
    assert_int_equal(v->gpr[X86_RAX], 0xc0f300);
    v->gpr[X86_RCX] = 0x1230;
    assert_int_equal(EXECUTE(0x0f, 0x03, 0xc1), DBT_NEXT);
    assert_false(v->flags_arith & X86_FLAG_ZF);
    assert_int_equal(v->gpr[X86_RAX], 0xc0f300);
}

static void popf_changes_what_the_level_allows(void **state)
{
    const uint64_t all = ~0ull;
    const uint64_t plain = DBT_ARITH_FLAGS | X86_FLAG_TF | X86_FLAG_NT | X86_FLAG_AC | X86_FLAG_ID;

    machine_long();
    machine_poke(MACHINE_STACK - 8, 8, all);
    v->gpr[X86_RSP] = MACHINE_STACK - 8;
    assert_int_equal(EXECUTE(0x9d), DBT_JUMP);
    assert_int_equal(dbt_rflags_get(v), plain | 2 | X86_FLAG_IF | X86_FLAG_IOPL);

    machine_long();
    machine_user();
    machine_poke(MACHINE_STACK - 8, 8, all);
    v->gpr[X86_RSP] = MACHINE_STACK - 8;
    assert_int_equal(EXECUTE(0x9d), DBT_JUMP);
    assert_int_equal(dbt_rflags_get(v), plain | 2);
    v->flags_sys |= X86_FLAG_IOPL;
    v->gpr[X86_RSP] = MACHINE_STACK - 8;
    assert_int_equal(EXECUTE(0x66, 0x9d), DBT_JUMP); /* 16 bits: IF now too */
    assert_int_equal(dbt_rflags_get(v), plain | 2 | X86_FLAG_IF | X86_FLAG_IOPL);

    machine_long();
    v->flags_sys |= X86_FLAG_RF;
    assert_int_equal(EXECUTE(0x9c), DBT_NEXT);
    assert_int_equal(machine_peek(MACHINE_STACK - 8, 8), 2);
    assert_int_equal(EXECUTE(0x9d), DBT_NEXT);
}

static void sti_holds_interrupts_back_once(void **state)
{
    machine_long();
    assert_int_equal(EXECUTE(0xfb), DBT_JUMP);
    assert_int_equal(v->iflag, 1);
    assert_int_equal(v->shadow, 1);
    v->shadow = 0;
    assert_int_equal(EXECUTE(0xfb), DBT_NEXT);
    assert_int_equal(v->shadow, 0);
    assert_int_equal(EXECUTE(0xfa), DBT_NEXT);
    assert_int_equal(v->iflag, 0);
    assert_int_equal(EXECUTE(0xf4), DBT_EXIT);
    assert_int_equal(v->run_state, X86_HALTED);
    assert_int_equal(v->rip, MACHINE_CODE + 4);
}

static void smap_chooses_the_bank(void **state)
{
    machine_long();
    assert_true(v->mode & DBT_MODE_AC);
    v->cr4 |= X86_CR4_SMAP;
    mode_update(v);
    assert_false(v->mode & DBT_MODE_AC);
    assert_int_equal(EXECUTE(0x0f, 0x01, 0xcb), DBT_JUMP); /* stac */
    assert_true(v->mode & DBT_MODE_AC);
    assert_int_equal(EXECUTE(0x0f, 0x01, 0xca), DBT_JUMP); /* clac */
    assert_false(v->mode & DBT_MODE_AC);
}

static void debug_registers(void **state)
{
    machine_long();
    v->gpr[X86_RAX] = 0x3;
    assert_int_equal(EXECUTE(0x0f, 0x23, 0xf8), DBT_JUMP); /* mov %rax, %dr7 */
    assert_int_equal(v->dr7, 0x403);
    assert_true(v->mode & DBT_MODE_DEBUG);
    v->gpr[X86_RAX] = 0xffffffff;
    assert_int_equal(EXECUTE(0x0f, 0x23, 0xf0), DBT_JUMP); /* mov %rax, %dr6 */
    assert_int_equal(v->dr6, 0xffffefff);
    v->gpr[X86_RAX] = 1ull << 32;
    EXPECT_FAULT(X86_VECTOR_GP, 0, 0x0f, 0x23, 0xf8);
    interrupt_deliver_debug_trap(v, X86_DR6_BS);
    assert_int_equal(v->dr6, 0xffffeff0);
    assert_int_equal(v->rip, MACHINE_HANDLER + 16 * X86_VECTOR_DB);
    /* General detect: the access itself traps, and delivery opens the registers again. */
    v->dr7 |= X86_DR7_GD;
    assert_int_equal(EXECUTE(0x0f, 0x21, 0xf8), DBT_FAULT);
    assert_int_equal(v->exception.vector, X86_VECTOR_DB);
    assert_true(v->dr6 & X86_DR6_BD);
    interrupt_deliver_exception(v);
    assert_false(v->dr7 & X86_DR7_GD);
    v->cr4 |= X86_CR4_DE;
    EXPECT_FAULT(X86_VECTOR_UD, 0, 0x0f, 0x21, 0xe0); /* dr4 */
}

static void xcr0_takes_what_cpuid_offers(void **state)
{
    machine_long();
    EXPECT_FAULT(X86_VECTOR_UD, 0, 0x0f, 0x01, 0xd1);
    v->cr4 |= X86_CR4_OSXSAVE | X86_CR4_OSFXSR;
    v->gpr[X86_RAX] = X86_XCR0_X87 | X86_XCR0_AVX;
    EXPECT_FAULT(X86_VECTOR_GP, 0, 0x0f, 0x01, 0xd1);
    v->gpr[X86_RAX] = 0xe7;
    EXPECT_FAULT(X86_VECTOR_GP, 0, 0x0f, 0x01, 0xd1);
    v->gpr[X86_RAX] = 7;
    assert_int_equal(EXECUTE(0x0f, 0x01, 0xd1), DBT_JUMP);
    assert_int_equal(v->xcr0, 7);
    assert_false(v->mode & DBT_MODE_NO_AVX);
}

static void invalidation(void **state)
{
    machine_long();
    v->gpr[X86_RAX] = BAD_ADDRESS;
    assert_int_equal(EXECUTE(0x0f, 0x01, 0x38), DBT_JUMP); /* nothing, and no fault */
    assert_int_equal(machine.page_flushes, 0);
    v->gpr[X86_RAX] = KERNEL_ADDRESS;
    assert_int_equal(EXECUTE(0x0f, 0x01, 0x38), DBT_JUMP);
    assert_int_equal(machine.page_flushes, 1);
    v->gpr[X86_RAX] = MACHINE_DATA;
    v->gpr[X86_RCX] = 4;
    EXPECT_FAULT(X86_VECTOR_GP, 0, 0x66, 0x0f, 0x38, 0x82, 0x08); /* no such type */
    v->gpr[X86_RCX] = 1;
    machine_poke(MACHINE_DATA, 8, 1);
    EXPECT_FAULT(X86_VECTOR_GP, 0, 0x66, 0x0f, 0x38, 0x82, 0x08); /* a PCID while they are off */
    v->gpr[X86_RCX] = 2;
    assert_int_equal(EXECUTE(0x66, 0x0f, 0x38, 0x82, 0x08), DBT_JUMP);
    assert_int_equal(machine.flushes, 1);
}

static void stack_instructions(void **state)
{
    machine_long();
    v->gpr[X86_RBP] = 0x1234;
    assert_int_equal(EXECUTE(0xc8, 0x20, 0x00, 0x01), DBT_NEXT); /* enter $32, $1 */
    assert_int_equal(v->gpr[X86_RBP], MACHINE_STACK - 8);
    assert_int_equal(v->gpr[X86_RSP], MACHINE_STACK - 16 - 32);
    assert_int_equal(machine_peek(MACHINE_STACK - 16, 8), MACHINE_STACK - 8);
    assert_int_equal(EXECUTE(0xc9), DBT_NEXT);
    assert_int_equal(v->gpr[X86_RBP], 0x1234);
    assert_int_equal(v->gpr[X86_RSP], MACHINE_STACK);

    assert_int_equal(EXECUTE(0x54), DBT_NEXT); /* push %rsp: the old value */
    assert_int_equal(machine_peek(MACHINE_STACK - 8, 8), MACHINE_STACK);
    assert_int_equal(EXECUTE(0x8f, 0x04, 0x24), DBT_NEXT); /* pop (%rsp): the new address */
    assert_int_equal(machine_peek(MACHINE_STACK, 8), MACHINE_STACK);
    v->gpr[X86_R9] = 77;
    assert_int_equal(EXECUTE(0x41, 0x51), DBT_NEXT);
    assert_int_equal(EXECUTE(0x5c), DBT_NEXT); /* pop %rsp */
    assert_int_equal(v->gpr[X86_RSP], 77);
    v->gpr[X86_RSP] = BAD_ADDRESS + 64;
    EXPECT_FAULT(X86_VECTOR_SS, 0, 0x6a, 0x80);
    v->gpr[X86_RSP] = MACHINE_STACK;
    assert_int_equal(EXECUTE(0x6a, 0x80), DBT_NEXT);
    assert_int_equal(machine_peek(MACHINE_STACK - 8, 8), 0xffffffffffffff80);
}

static void ports_need_permission(void **state)
{
    machine_long();
    machine.port_value = 0xabcdef12;
    v->gpr[X86_RAX] = ~0ull;
    assert_int_equal(EXECUTE(0xe4, 0x60), DBT_NEXT); /* in $0x60, %al */
    assert_int_equal(v->gpr[X86_RAX], 0xffffffffffffff12);
    assert_int_equal(machine.port, 0x60);
    v->gpr[X86_RDX] = 0x3f9;
    assert_int_equal(EXECUTE(0xed), DBT_NEXT); /* in %dx, %eax */
    assert_int_equal(v->gpr[X86_RAX], 0xabcdef13);
    assert_int_equal(machine.port_size, 4);
    assert_int_equal(EXECUTE(0x66, 0xef), DBT_NEXT);
    assert_int_equal(machine.port_value, 0xef13);

    machine_user();
    machine_poke(MACHINE_TSS + 0x66, 2, 0x68);
    v->gpr[X86_RDX] = 0x3ff;
    assert_int_equal(EXECUTE(0xec), DBT_NEXT); /* the bit is clear */
    machine_poke(MACHINE_TSS + 0x68 + 0x400 / 8, 1, 1);
    assert_int_equal(EXECUTE(0xec), DBT_NEXT);
    EXPECT_FAULT(X86_VECTOR_GP, 0, 0x66, 0xed); /* the second port's is set */
    v->tr.limit = 0x68 + 0x3f8 / 8;
    EXPECT_FAULT(X86_VECTOR_GP, 0, 0xec);
    v->flags_sys |= X86_FLAG_IOPL;
    assert_int_equal(EXECUTE(0xec), DBT_NEXT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(segment_loads_check_the_descriptor),
        cmocka_unit_test(a_stack_segment_belongs_to_the_privilege_level),
        cmocka_unit_test(mov_from_segment_has_the_operands_width),
        cmocka_unit_test(an_exception_from_user_code_switches_to_the_kernels_stack),
        cmocka_unit_test(an_interrupt_in_the_kernel_aligns_the_stack),
        cmocka_unit_test(an_interrupt_stack_is_used_whatever_the_level),
        cmocka_unit_test(a_fault_on_the_way_becomes_a_double_and_then_a_triple_fault),
        cmocka_unit_test(a_benign_first_fault_gives_way_to_the_second),
        cmocka_unit_test(software_interrupts_need_the_gates_permission),
        cmocka_unit_test(iretq_returns_to_user_code),
        cmocka_unit_test(iretq_refuses_bad_frames),
        cmocka_unit_test(iretq_to_a_null_stack_and_to_compatibility_mode),
        cmocka_unit_test(syscall_and_sysret_are_inverse),
        cmocka_unit_test(sysenter_and_sysexit),
        cmocka_unit_test(far_returns_change_code_segments),
        cmocka_unit_test(a_call_gate_leads_to_the_kernel_and_back),
        cmocka_unit_test(privileged_instructions_fault_in_user_code),
        cmocka_unit_test(control_registers_refuse_impossible_values),
        cmocka_unit_test(model_specific_registers),
        cmocka_unit_test(bases_of_fs_and_gs),
        cmocka_unit_test(descriptor_tables),
        cmocka_unit_test(popf_changes_what_the_level_allows),
        cmocka_unit_test(sti_holds_interrupts_back_once),
        cmocka_unit_test(smap_chooses_the_bank),
        cmocka_unit_test(debug_registers),
        cmocka_unit_test(xcr0_takes_what_cpuid_offers),
        cmocka_unit_test(invalidation),
        cmocka_unit_test(stack_instructions),
        cmocka_unit_test(ports_need_permission),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
