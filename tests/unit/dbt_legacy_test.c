/* The software engine's C instructions outside long mode: real mode as an application processor's
 * start-up code uses it, 16- and 32-bit protected mode, VM86, task switches, and the instructions
 * that 64-bit mode has dropped. */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <cmocka.h>

#include "dbt_machine.h"
#include "engine/dbt/interrupt.h"

static struct dbt_vcpu *const v = &machine.v;

static void a_start_up_trampoline_reaches_protected_mode(void **state)
{
    machine_protected(); /* for its GDT */
    machine_real_registers();
    v->gpr[X86_RAX] = 0x0800;
    assert_int_equal(EXECUTE(0x8e, 0xd8), DBT_NEXT); /* mov %ax, %ds */
    assert_int_equal(v->segment[X86_DS].base, 0x8000);
    assert_int_equal(v->segment[X86_DS].limit, 0xffff);
    machine_poke(0x8000 + 0x100, 2, 0xff);
    machine_poke(0x8000 + 0x102, 4, 0xab000000 | MACHINE_GDT);
    assert_int_equal(EXECUTE(0x0f, 0x01, 0x16, 0x00, 0x01), DBT_NEXT); /* lgdtw 0x100 */
    assert_int_equal(v->gdtr.base, MACHINE_GDT);                       /* 24 bits */
    assert_int_equal(v->gdtr.limit, 0xff);
    v->gpr[X86_RAX] = 1;
    assert_int_equal(EXECUTE(0x0f, 0x01, 0xf0), DBT_JUMP); /* lmsw %ax */
    assert_true(v->mode & DBT_MODE_PROTECTED);
    assert_false(v->mode & DBT_MODE_CODE32);
    v->gpr[X86_RAX] = 0;
    assert_int_equal(EXECUTE(0x0f, 0x01, 0xf0), DBT_JUMP);
    assert_true(v->mode & DBT_MODE_PROTECTED); /* LMSW cannot leave */
    assert_int_equal(EXECUTE(0x66, 0xea, 0x00, 0x90, 0x00, 0x00, SEL_CODE0, 0x00), DBT_JUMP);
    assert_int_equal(v->rip, 0x9000);
    assert_true(v->mode & DBT_MODE_CODE32);
    v->gpr[X86_RAX] = SEL_DATA0;
    assert_int_equal(EXECUTE(0x8e, 0xd8), DBT_NEXT);
    assert_int_equal(EXECUTE(0x8e, 0xc0), DBT_NEXT);
    assert_int_equal(EXECUTE(0x8e, 0xd0), DBT_JUMP);
    assert_true(v->mode & DBT_MODE_FLAT);
    assert_true(v->mode & DBT_MODE_STACK32);
}

static void long_mode_is_entered_through_cr0(void **state)
{
    machine_protected();
    v->efer = X86_EFER_LME;
    v->gpr[X86_RAX] = v->cr0 | X86_CR0_PG;
    EXPECT_FAULT(X86_VECTOR_GP, 0, 0x0f, 0x22, 0xc0); /* without PAE */
    v->cr4 = X86_CR4_PAE;
    assert_int_equal(EXECUTE(0x0f, 0x22, 0xc0), DBT_JUMP);
    assert_true(v->efer & X86_EFER_LMA);
    assert_true(v->mode & DBT_MODE_LMA);
    assert_false(v->mode & DBT_MODE_CODE64);
    machine_descriptor(SEL_FREE, 0, 0xfffff, ACCESS_CODE, FLAG_G | FLAG_L);
    assert_int_equal(EXECUTE(0xea, 0x00, 0x90, 0x00, 0x00, SEL_FREE, 0x00), DBT_JUMP);
    assert_true(v->mode & DBT_MODE_CODE64);
}

static void pae_paging_loads_the_pointer_registers(void **state)
{
    machine_protected();
    v->cr4 = X86_CR4_PAE;
    v->gpr[X86_RAX] = v->cr0 | X86_CR0_PG;
    assert_int_equal(EXECUTE(0x0f, 0x22, 0xc0), DBT_JUMP);
    assert_int_equal(machine.cr3_loads, 1);
    v->gpr[X86_RAX] = v->cr4 | X86_CR4_PGE;
    assert_int_equal(EXECUTE(0x0f, 0x22, 0xe0), DBT_JUMP);
    assert_int_equal(machine.cr3_loads, 2);
}

static void real_mode_interrupts(void **state)
{
    machine_real();
    v->segment[X86_CS].selector = 0x100;
    v->segment[X86_CS].base = 0x1000;
    machine_poke(0x21 * 4, 4, 0x12345678);
    dbt_rflags_set(v, 2 | X86_FLAG_IF | X86_FLAG_CF);
    assert_int_equal(EXECUTE(0xcd, 0x21), DBT_JUMP);
    assert_int_equal(v->rip, 0x5678);
    assert_int_equal(v->segment[X86_CS].selector, 0x1234);
    assert_int_equal(v->segment[X86_CS].base, 0x12340);
    assert_int_equal(v->gpr[X86_RSP], MACHINE_STACK - 6);
    assert_int_equal(machine_peek(MACHINE_STACK - 6, 2), MACHINE_CODE + 2);
    assert_int_equal(machine_peek(MACHINE_STACK - 4, 2), 0x100);
    assert_int_equal(machine_peek(MACHINE_STACK - 2, 2), 2 | X86_FLAG_IF | X86_FLAG_CF);
    assert_int_equal(v->iflag, 0);
    assert_int_equal(EXECUTE(0xcf), DBT_JUMP);
    assert_int_equal(v->rip, MACHINE_CODE + 2);
    assert_int_equal(v->segment[X86_CS].base, 0x1000);
    assert_int_equal(v->iflag, 1);
    assert_int_equal(v->gpr[X86_RSP], MACHINE_STACK);

    /* No error code is pushed, and beyond the table there is nothing but shutdown. */
    dbt_raise_error(v, X86_VECTOR_GP, 0x55);
    interrupt_deliver_exception(v);
    assert_int_equal(v->gpr[X86_RSP], MACHINE_STACK - 6);
    v->idtr.limit = 0;
    dbt_raise(v, X86_VECTOR_UD);
    interrupt_deliver_exception(v);
    assert_true(v->shutdown);
}

static void real_mode_far_calls(void **state)
{
    machine_real();
    assert_int_equal(EXECUTE(0x9a, 0x34, 0x12, 0x00, 0x20), DBT_JUMP);
    assert_int_equal(v->rip, 0x1234);
    assert_int_equal(v->segment[X86_CS].base, 0x20000);
    assert_int_equal(EXECUTE(0xca, 0x04, 0x00), DBT_JUMP);
    assert_int_equal(v->rip, MACHINE_CODE + 5);
    assert_int_equal(v->gpr[X86_RSP], MACHINE_STACK + 4);
    /* 32-bit offsets must lie in the segment all the same. */
    EXPECT_FAULT(X86_VECTOR_GP, 0, 0x66, 0xea, 0x00, 0x00, 0x01, 0x00, 0x00, 0x20);
}

static void unreal_mode_keeps_the_limit(void **state)
{
    machine_real();
    v->segment[X86_DS].limit = 0xffffffff;
    mode_update(v);
    v->gpr[X86_RAX] = 0x10;
    assert_int_equal(EXECUTE(0x8e, 0xd8), DBT_NEXT);
    assert_int_equal(v->segment[X86_DS].base, 0x100);
    assert_int_equal(v->segment[X86_DS].limit, 0xffffffff);
}

static void narrow_stacks_and_branches(void **state)
{
    machine_real();
    v->gpr[X86_RSP] = 0x12340002;
    v->gpr[X86_RAX] = 0xabcd;
    assert_int_equal(EXECUTE(0x50), DBT_NEXT);
    assert_int_equal(v->gpr[X86_RSP], 0x12340000);
    assert_int_equal(EXECUTE(0x50), DBT_NEXT);
    assert_int_equal(v->gpr[X86_RSP], 0x1234fffe); /* wraps in 16 bits */
    assert_int_equal(machine_peek(0xfffe, 2), 0xabcd);
    v->gpr[X86_RSP] = MACHINE_STACK;
    assert_int_equal(EXECUTE(0x60), DBT_NEXT); /* pusha */
    assert_int_equal(machine_peek(MACHINE_STACK - 10, 2), MACHINE_STACK & 0xffff);
    v->gpr[X86_RAX] = 0;
    assert_int_equal(EXECUTE(0x61), DBT_NEXT);
    assert_int_equal(v->gpr[X86_RAX], 0xabcd);
    assert_int_equal(v->gpr[X86_RSP], MACHINE_STACK);

    v->rip = 0x8000;
    assert_int_equal(EXECUTE(0xe8, 0xfd, 0x7f), DBT_JUMP); /* wraps to 0 */
    assert_int_equal(v->rip, 0);
    assert_int_equal(machine_peek(MACHINE_STACK - 2, 2), 0x8003);
    assert_int_equal(EXECUTE(0xc3), DBT_JUMP);
    assert_int_equal(v->rip, 0x8003);
    v->gpr[X86_RCX] = 0x50001;
    assert_int_equal(EXECUTE(0xe2, 0x10), DBT_JUMP); /* loop: CX becomes 0 */
    assert_int_equal(v->rip, 0x8005);
    assert_int_equal(v->gpr[X86_RCX], 0x50000);
    assert_int_equal(EXECUTE(0xe3, 0x10), DBT_JUMP); /* jcxz */
    assert_int_equal(v->rip, 0x8017);
    v->flags_arith = X86_FLAG_SF;
    assert_int_equal(EXECUTE(0x7c, 0x10), DBT_JUMP); /* jl */
    assert_int_equal(v->rip, 0x8029);
    assert_int_equal(EXECUTE(0x7d, 0x10), DBT_JUMP);
    assert_int_equal(v->rip, 0x802b);
    v->segment[X86_CS].limit = 0x8030;
    v->gpr[X86_RCX] = 2;
    EXPECT_FAULT(X86_VECTOR_GP, 0, 0xe2, 0x10); /* and RCX is untouched */
}

static void protected_mode_interrupt_from_user_code(void **state)
{
    machine_protected();
    machine_user();
    dbt_raise_error(v, X86_VECTOR_PF, 4);
    v->exception.address = 0x1234;
    interrupt_deliver_exception(v);
    assert_int_equal(v->cr2, 0x1234);
    assert_int_equal(dbt_cpl(v), 0);
    assert_int_equal(v->gpr[X86_RSP], MACHINE_STACK0 - 24);
    assert_int_equal(machine_peek(MACHINE_STACK0 - 24, 4), 4);
    assert_int_equal(machine_peek(MACHINE_STACK0 - 20, 4), MACHINE_CODE);
    assert_int_equal(machine_peek(MACHINE_STACK0 - 16, 4), SEL_CODE3);
    assert_int_equal(machine_peek(MACHINE_STACK0 - 12, 4), 2 | X86_FLAG_RF);
    assert_int_equal(machine_peek(MACHINE_STACK0 - 8, 4), MACHINE_STACK);
    assert_int_equal(machine_peek(MACHINE_STACK0 - 4, 4), SEL_DATA3);
    v->gpr[X86_RSP] += 4;
    assert_int_equal(EXECUTE(0xcf), DBT_JUMP);
    assert_int_equal(dbt_cpl(v), 3);
    assert_int_equal(v->gpr[X86_RSP], MACHINE_STACK);
    assert_int_equal(v->segment[X86_SS].selector, SEL_DATA3);

    /* A bad stack selector in the TSS is #TS, and that has the EXT bit. */
    machine_protected();
    machine_user();
    machine_poke(MACHINE_TSS + 8, 2, SEL_CODE0);
    machine_gate(X86_VECTOR_TS, X86_TYPE_INTERRUPT_GATE, 0, SEL_CODE3, MACHINE_HANDLER, 0);
    interrupt_deliver_external(v, 33);
    assert_int_equal(v->rip, MACHINE_HANDLER);
    assert_int_equal(machine_peek(v->gpr[X86_RSP], 4), SEL_CODE0 | X86_ERROR_EXT);
}

static void a_call_gate_copies_parameters(void **state)
{
    machine_protected();
    machine_user();
    machine_poke(MACHINE_GDT + SEL_FREE, 8,
                 0xe000 | (uint64_t)SEL_CODE0 << 16 | 2ull << 32 | 0xecull << 40);
    machine_poke(MACHINE_STACK - 8, 4, 0x11);
    machine_poke(MACHINE_STACK - 4, 4, 0x22);
    v->gpr[X86_RSP] = MACHINE_STACK - 8;
    assert_int_equal(EXECUTE(0x9a, 0, 0, 0, 0, SEL_FREE | 3, 0), DBT_JUMP);
    assert_int_equal(v->rip, 0xe000);
    assert_int_equal(dbt_cpl(v), 0);
    assert_int_equal(v->gpr[X86_RSP], MACHINE_STACK0 - 24);
    assert_int_equal(machine_peek(MACHINE_STACK0 - 16, 4), 0x11);
    assert_int_equal(machine_peek(MACHINE_STACK0 - 12, 4), 0x22);
    assert_int_equal(machine_peek(MACHINE_STACK0 - 8, 4), MACHINE_STACK - 8);
    assert_int_equal(EXECUTE(0xca, 8, 0), DBT_JUMP); /* lret $8 */
    assert_int_equal(dbt_cpl(v), 3);
    assert_int_equal(v->gpr[X86_RSP], MACHINE_STACK);
    assert_int_equal(v->rip, MACHINE_CODE + 7);
    machine_poke(MACHINE_GDT + SEL_FREE + 5, 1, 0x8c); /* DPL 0 */
    EXPECT_FAULT(X86_VECTOR_GP, SEL_FREE, 0x9a, 0, 0, 0, 0, SEL_FREE | 3, 0);
}

static void segment_limits_and_types_hold(void **state)
{
    machine_protected();
    machine_descriptor(SEL_FREE, 0x10000, 0xff, ACCESS_DATA & ~2, FLAG_DB); /* read-only */
    v->gpr[X86_RAX] = SEL_FREE;
    assert_int_equal(EXECUTE(0x8e, 0xd8), DBT_JUMP);
    v->gpr[X86_RBX] = 0xfd;
    EXPECT_FAULT(X86_VECTOR_GP, 0, 0xff, 0x33); /* pushl (%ebx) beyond the limit */
    v->gpr[X86_RBX] = 0xfc;
    machine_poke(0x100fc, 4, 0xcafe);
    assert_int_equal(EXECUTE(0xff, 0x33), DBT_NEXT);
    assert_int_equal(machine_peek(MACHINE_STACK - 4, 4), 0xcafe);
    EXPECT_FAULT(X86_VECTOR_GP, 0, 0x8f, 0x03); /* popl (%ebx) */
    /* Expand-down: valid above the limit. */
    machine_descriptor(SEL_FREE, 0x10000, 0xff, ACCESS_DATA | 4, FLAG_DB);
    assert_int_equal(EXECUTE(0x8e, 0xd8), DBT_NEXT);
    EXPECT_FAULT(X86_VECTOR_GP, 0, 0x8f, 0x03);
    v->gpr[X86_RBX] = 0x100;
    assert_int_equal(EXECUTE(0x8f, 0x03), DBT_NEXT);
    assert_int_equal(machine_peek(0x10100, 4), 0xcafe);
    v->gpr[X86_RAX] = 0;
    assert_int_equal(EXECUTE(0x8e, 0xd8), DBT_NEXT);
    EXPECT_FAULT(X86_VECTOR_GP, 0, 0x8f, 0x03); /* through a null segment */
    v->segment[X86_SS].limit = 0xfff;
    EXPECT_FAULT(X86_VECTOR_SS, 0, 0x50);
}

static void far_pointers_are_loaded_whole(void **state)
{
    machine_protected();
    v->gpr[X86_RBX] = MACHINE_DATA;
    machine_poke(MACHINE_DATA, 4, 0x12345678);
    machine_poke(MACHINE_DATA + 4, 2, SEL_FREE);
    EXPECT_FAULT(X86_VECTOR_GP, SEL_FREE, 0xc4, 0x03); /* les (%ebx), %eax */
    machine_poke(MACHINE_DATA + 4, 2, SEL_DATA3);
    assert_int_equal(EXECUTE(0xc4, 0x03), DBT_NEXT);
    assert_int_equal(v->gpr[X86_RAX], 0x12345678);
    assert_int_equal(v->segment[X86_ES].selector, SEL_DATA3);
    assert_int_equal(EXECUTE(0x06), DBT_NEXT); /* push %es */
    assert_int_equal(machine_peek(MACHINE_STACK - 4, 4), SEL_DATA3);
    assert_int_equal(EXECUTE(0x1f), DBT_NEXT); /* pop %ds */
    assert_int_equal(v->segment[X86_DS].selector, SEL_DATA3);
    assert_int_equal(v->gpr[X86_RSP], MACHINE_STACK);
}

static void enter_vm86(uint64_t flags)
{
    const uint32_t frame[] = {0x100,  0x0800, (uint32_t)(flags | X86_FLAG_VM | 2),
                              0xfffe, 0x0900, 0x0a00,
                              0x0b00, 0x0c00, 0x0d00};

    machine_protected();
    for (unsigned i = 0; i < ARRAY_SIZE(frame); i++)
        machine_poke(MACHINE_STACK - 36 + 4 * i, 4, frame[i]);
    v->gpr[X86_RSP] = MACHINE_STACK - 36;
    assert_int_equal(EXECUTE(0xcf), DBT_JUMP);
}

static void vm86_is_entered_and_left(void **state)
{
    enter_vm86(X86_FLAG_IF);
    assert_true(v->mode & DBT_MODE_VM86);
    assert_int_equal(dbt_cpl(v), 3);
    assert_int_equal(v->rip, 0x100);
    assert_int_equal(v->segment[X86_CS].base, 0x8000);
    assert_int_equal(v->segment[X86_SS].base, 0x9000);
    assert_int_equal(v->segment[X86_ES].base, 0xa000);
    assert_int_equal(v->segment[X86_GS].base, 0xd000);
    assert_int_equal(v->gpr[X86_RSP], 0xfffe);
    assert_false(v->mode & DBT_MODE_CODE32);
    /* IOPL 0: whatever touches IF faults. */
    EXPECT_FAULT(X86_VECTOR_GP, 0, 0xfa);
    EXPECT_FAULT(X86_VECTOR_GP, 0, 0x9c);
    EXPECT_FAULT(X86_VECTOR_GP, 0, 0x9d);
    EXPECT_FAULT(X86_VECTOR_GP, 0, 0xcf);
    EXPECT_FAULT(X86_VECTOR_GP, 0, 0xcd, 0x21);

    interrupt_deliver_external(v, 33);
    assert_false(v->mode & DBT_MODE_VM86);
    assert_int_equal(dbt_cpl(v), 0);
    assert_int_equal(v->gpr[X86_RSP], MACHINE_STACK0 - 36);
    assert_int_equal(machine_peek(MACHINE_STACK0 - 4, 4), 0x0d00);  /* GS */
    assert_int_equal(machine_peek(MACHINE_STACK0 - 16, 4), 0x0a00); /* ES */
    assert_int_equal(machine_peek(MACHINE_STACK0 - 20, 4), 0x0900); /* SS */
    assert_int_equal(machine_peek(MACHINE_STACK0 - 28, 4), 2 | X86_FLAG_IF | X86_FLAG_VM);
    assert_int_equal(machine_peek(MACHINE_STACK0 - 36, 4), 0x100);
    assert_int_equal(v->segment[X86_DS].selector, 0);
    assert_int_equal(EXECUTE(0xcf), DBT_JUMP);
    assert_true(v->mode & DBT_MODE_VM86);
    assert_int_equal(v->segment[X86_DS].base, 0xb000);

    enter_vm86(X86_FLAG_IOPL);
    v->gpr[X86_RAX] = 0x7000;
    assert_int_equal(EXECUTE(0xfb), DBT_JUMP); /* sti with IOPL 3 */
    assert_int_equal(EXECUTE(0x8e, 0xd8), DBT_NEXT);
    assert_int_equal(v->segment[X86_DS].base, 0x70000);
}

#define TSS2 0x6000

/* A second task at SEL_FREE, 32 bits wide. */
static void make_task(void)
{
    machine_descriptor(SEL_FREE, TSS2, 0x67, ACCESS_TSS, 0);
    machine_poke(TSS2 + 0x20, 4, 0x7000);          /* EIP */
    machine_poke(TSS2 + 0x24, 4, 2 | X86_FLAG_CF); /* EFLAGS */
    machine_poke(TSS2 + 0x28, 4, 0xaaaa);          /* EAX */
    machine_poke(TSS2 + 0x38, 4, 0x9800);          /* ESP */
    for (unsigned i = 0; i < 6; i++)
        machine_poke(TSS2 + 0x48 + 4 * i, 2, i == X86_CS ? SEL_CODE0 : SEL_DATA0);
}

static void tasks_call_and_return(void **state)
{
    machine_protected();
    make_task();
    v->gpr[X86_RAX] = 0x5555;
    assert_int_equal(EXECUTE(0x9a, 0, 0, 0, 0, SEL_FREE, 0), DBT_JUMP);
    assert_int_equal(v->tr.selector, SEL_FREE);
    assert_int_equal(v->rip, 0x7000);
    assert_int_equal(v->gpr[X86_RAX], 0xaaaa);
    assert_int_equal(v->gpr[X86_RSP], 0x9800);
    assert_int_equal(dbt_rflags_get(v), 2 | X86_FLAG_CF | X86_FLAG_NT);
    assert_true(v->cr0 & X86_CR0_TS);
    assert_int_equal(machine_peek(TSS2, 2), SEL_TSS);
    assert_int_equal(machine_peek(MACHINE_TSS + 0x20, 4), MACHINE_CODE + 7);
    assert_int_equal(machine_peek(MACHINE_TSS + 0x28, 4), 0x5555);
    assert_int_equal(machine_peek(MACHINE_TSS + 0x4c, 2), SEL_CODE0);
    assert_int_equal(machine_peek(MACHINE_GDT + SEL_FREE + 5, 1), ACCESS_TSS | 2);
    assert_int_equal(machine_peek(MACHINE_GDT + SEL_TSS + 5, 1), ACCESS_TSS | 2);
    EXPECT_FAULT(X86_VECTOR_GP, SEL_FREE, 0x9a, 0, 0, 0, 0, SEL_FREE, 0); /* it is busy */

    assert_int_equal(EXECUTE(0xcf), DBT_JUMP); /* NT: back to the caller */
    assert_int_equal(v->tr.selector, SEL_TSS);
    assert_int_equal(v->rip, MACHINE_CODE + 7);
    assert_int_equal(v->gpr[X86_RAX], 0x5555);
    assert_false(v->flags_sys & X86_FLAG_NT);
    assert_int_equal(machine_peek(MACHINE_GDT + SEL_FREE + 5, 1), ACCESS_TSS);
    assert_false(machine_peek(TSS2 + 0x24, 4) & X86_FLAG_NT);
}

static void a_task_gate_takes_the_error_code(void **state)
{
    machine_protected();
    make_task();
    machine_gate(X86_VECTOR_DF, X86_TYPE_TASK_GATE, 0, SEL_FREE, 0, 0);
    machine_gate(X86_VECTOR_GP, X86_TYPE_INTERRUPT_GATE, 0, SEL_FREE + 8, 0, 0);
    dbt_raise_error(v, X86_VECTOR_GP, 0x18);
    interrupt_deliver_exception(v);
    assert_false(v->shutdown);
    assert_int_equal(v->rip, 0x7000);
    assert_int_equal(v->gpr[X86_RSP], 0x9800 - 4);
    assert_int_equal(machine_peek(0x9800 - 4, 4), 0);
    assert_int_equal(machine_peek(MACHINE_TSS + 0x20, 4), MACHINE_CODE);
}

static void a_bad_new_task_faults_in_the_new_task(void **state)
{
    machine_protected();
    make_task();
    machine_poke(TSS2 + 0x50, 2, SEL_CODE0); /* SS */
    assert_int_equal(EXECUTE(0xea, 0, 0, 0, 0, SEL_FREE, 0), DBT_FAULT);
    assert_int_equal(v->exception.vector, X86_VECTOR_TS);
    assert_int_equal(v->exception.error, SEL_CODE0);
    assert_int_equal(v->tr.selector, SEL_FREE);
    assert_int_equal(v->rip, 0x7000);
    assert_int_equal(machine_peek(MACHINE_GDT + SEL_TSS + 5, 1), ACCESS_TSS); /* JMP: not busy */

    machine_protected();
    make_task();
    machine_descriptor(SEL_FREE, TSS2, 0x66, ACCESS_TSS, 0);
    EXPECT_FAULT(X86_VECTOR_TS, SEL_FREE, 0xea, 0, 0, 0, 0, SEL_FREE, 0);
}

static void a_debug_task_traps(void **state)
{
    machine_protected();
    make_task();
    machine_poke(TSS2 + 0x64, 2, 1);
    assert_int_equal(EXECUTE(0xea, 0, 0, 0, 0, SEL_FREE, 0), DBT_FAULT);
    assert_int_equal(v->exception.vector, X86_VECTOR_DB);
    assert_true(v->dr6 & X86_DR6_BT);
    assert_int_equal(v->rip, 0x7000);
}

/* AL and AH, CF and AF before; AX, CF and AF after. Values from the manual's definitions. */
static void decimal_adjustment(void **state)
{
    static const struct {
        uint8_t opcode;
        uint16_t ax;
        bool cf, af;
        uint16_t result;
        bool cf_after, af_after;
    } table[] = {
        {0x27, 0x00ae, false, false, 0x0014, true, true}, /* daa */
        {0x27, 0x0079, false, false, 0x0079, false, false},
        {0x27, 0x009a, false, false, 0x0000, true, true},
        {0x27, 0x0012, true, true, 0x0078, true, true},
        {0x2f, 0x00ee, false, true, 0x0088, true, true}, /* das */
        {0x2f, 0x0003, false, true, 0x00fd, true, true},
        {0x2f, 0x0045, false, false, 0x0045, false, false},
        {0x37, 0x010b, false, false, 0x0201, true, true}, /* aaa */
        {0x37, 0x01f5, false, false, 0x0105, false, false},
        {0x3f, 0x02ff, false, false, 0x0109, true, true}, /* aas */
        {0x3f, 0x0004, false, false, 0x0004, false, false},
    };

    machine_protected();
    for (unsigned i = 0; i < ARRAY_SIZE(table); i++) {
        v->gpr[X86_RAX] = table[i].ax;
        v->flags_arith = (table[i].cf ? X86_FLAG_CF : 0) | (table[i].af ? X86_FLAG_AF : 0);
        assert_int_equal(EXECUTE(table[i].opcode), DBT_NEXT);
        assert_int_equal(v->gpr[X86_RAX], table[i].result);
        assert_int_equal(!!(v->flags_arith & X86_FLAG_CF), table[i].cf_after);
        assert_int_equal(!!(v->flags_arith & X86_FLAG_AF), table[i].af_after);
    }
    v->gpr[X86_RAX] = 0x3f;
    assert_int_equal(EXECUTE(0xd4, 10), DBT_NEXT); /* aam */
    assert_int_equal(v->gpr[X86_RAX], 0x0603);
    assert_int_equal(EXECUTE(0xd5, 10), DBT_NEXT); /* aad */
    assert_int_equal(v->gpr[X86_RAX], 0x3f);
    EXPECT_FAULT(X86_VECTOR_DE, 0, 0xd4, 0);
}

static void other_old_instructions(void **state)
{
    machine_protected();
    v->gpr[X86_RBX] = MACHINE_DATA;
    machine_poke(MACHINE_DATA, 4, (uint32_t)-5);
    machine_poke(MACHINE_DATA + 4, 4, 7);
    v->gpr[X86_RAX] = (uint32_t)-5;
    assert_int_equal(EXECUTE(0x62, 0x03), DBT_NEXT); /* bound %eax, (%ebx) */
    v->gpr[X86_RAX] = 8;
    EXPECT_FAULT(X86_VECTOR_BR, 0, 0x62, 0x03);
    v->gpr[X86_RAX] = 4;
    assert_int_equal(EXECUTE(0xd7), DBT_NEXT); /* xlat */
    assert_int_equal(v->gpr[X86_RAX], 7);
    v->gpr[X86_RAX] = 0x10;
    v->gpr[X86_RCX] = 3;
    assert_int_equal(EXECUTE(0x63, 0xc8), DBT_NEXT); /* arpl %cx, %ax */
    assert_int_equal(v->gpr[X86_RAX], 0x13);
    assert_true(v->flags_arith & X86_FLAG_ZF);
    assert_int_equal(EXECUTE(0x63, 0xc8), DBT_NEXT);
    assert_false(v->flags_arith & X86_FLAG_ZF);
    v->flags_arith = X86_FLAG_CF;
    assert_int_equal(EXECUTE(0xd6), DBT_NEXT); /* salc */
    assert_int_equal(v->gpr[X86_RAX], 0xff);
    assert_int_equal(EXECUTE(0xce), DBT_JUMP); /* into without overflow */
    v->flags_arith = X86_FLAG_OF;
    assert_int_equal(EXECUTE(0xce), DBT_JUMP);
    assert_int_equal(v->rip, MACHINE_HANDLER + 16 * X86_VECTOR_OF);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_start_up_trampoline_reaches_protected_mode),
        cmocka_unit_test(long_mode_is_entered_through_cr0),
        cmocka_unit_test(pae_paging_loads_the_pointer_registers),
        cmocka_unit_test(real_mode_interrupts),
        cmocka_unit_test(real_mode_far_calls),
        cmocka_unit_test(unreal_mode_keeps_the_limit),
        cmocka_unit_test(narrow_stacks_and_branches),
        cmocka_unit_test(protected_mode_interrupt_from_user_code),
        cmocka_unit_test(a_call_gate_copies_parameters),
        cmocka_unit_test(segment_limits_and_types_hold),
        cmocka_unit_test(far_pointers_are_loaded_whole),
        cmocka_unit_test(vm86_is_entered_and_left),
        cmocka_unit_test(tasks_call_and_return),
        cmocka_unit_test(a_task_gate_takes_the_error_code),
        cmocka_unit_test(a_bad_new_task_faults_in_the_new_task),
        cmocka_unit_test(a_debug_task_traps),
        cmocka_unit_test(decimal_adjustment),
        cmocka_unit_test(other_old_instructions),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
