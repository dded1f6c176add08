/*
 * Names of architectural bits and numbers that both engines, the boot loaders and the tests use:
 * control registers, RFLAGS, exception vectors, descriptor types, page-table entries, XCR0.
 * Intel SDM volume 3 unless another source stands beside the definition; MSR numbers are in msr.h.
 */
#ifndef SILL_X86_ARCH_H
#define SILL_X86_ARCH_H

/* RFLAGS (SDM volume 1, 3.4.3). */
#define X86_FLAG_CF (1ull << 0)
#define X86_FLAG_FIXED (1ull << 1) /* always 1 */
#define X86_FLAG_PF (1ull << 2)
#define X86_FLAG_AF (1ull << 4)
#define X86_FLAG_ZF (1ull << 6)
#define X86_FLAG_SF (1ull << 7)
#define X86_FLAG_TF (1ull << 8)
#define X86_FLAG_IF (1ull << 9)
#define X86_FLAG_DF (1ull << 10)
#define X86_FLAG_OF (1ull << 11)
#define X86_FLAG_IOPL (3ull << 12)
#define X86_FLAG_IOPL_SHIFT 12
#define X86_FLAG_NT (1ull << 14)
#define X86_FLAG_RF (1ull << 16)
#define X86_FLAG_VM (1ull << 17)
#define X86_FLAG_AC (1ull << 18)
#define X86_FLAG_VIF (1ull << 19)
#define X86_FLAG_VIP (1ull << 20)
#define X86_FLAG_ID (1ull << 21)

/* CR0 (2.5). */
#define X86_CR0_PE (1ull << 0)
#define X86_CR0_MP (1ull << 1)
#define X86_CR0_EM (1ull << 2)
#define X86_CR0_TS (1ull << 3)
#define X86_CR0_ET (1ull << 4) /* reads 1 */
#define X86_CR0_NE (1ull << 5)
#define X86_CR0_WP (1ull << 16)
#define X86_CR0_AM (1ull << 18)
#define X86_CR0_NW (1ull << 29)
#define X86_CR0_CD (1ull << 30)
#define X86_CR0_PG (1ull << 31)

/* CR3 (2.5, 4.10.4.1). */
#define X86_CR3_PCID_MASK 0xfffull
#define X86_CR3_NO_FLUSH (1ull << 63) /* of MOV to CR3 with PCIDs on; never stored */

/* CR4 (2.5). */
#define X86_CR4_VME (1ull << 0)
#define X86_CR4_PVI (1ull << 1)
#define X86_CR4_TSD (1ull << 2)
#define X86_CR4_DE (1ull << 3)
#define X86_CR4_PSE (1ull << 4)
#define X86_CR4_PAE (1ull << 5)
#define X86_CR4_MCE (1ull << 6)
#define X86_CR4_PGE (1ull << 7)
#define X86_CR4_PCE (1ull << 8)
#define X86_CR4_OSFXSR (1ull << 9)
#define X86_CR4_OSXMMEXCPT (1ull << 10)
#define X86_CR4_UMIP (1ull << 11)
#define X86_CR4_LA57 (1ull << 12)
#define X86_CR4_VMXE (1ull << 13)
#define X86_CR4_SMXE (1ull << 14)
#define X86_CR4_FSGSBASE (1ull << 16)
#define X86_CR4_PCIDE (1ull << 17)
#define X86_CR4_OSXSAVE (1ull << 18)
#define X86_CR4_SMEP (1ull << 20)
#define X86_CR4_SMAP (1ull << 21)
#define X86_CR4_PKE (1ull << 22)
#define X86_CR4_CET (1ull << 23)

/* EFER (2.2.1). SVME, LMSLE, FFXSR and the rest are AMD's (APM volume 2, 3.1.7). */
#define X86_EFER_SCE (1ull << 0)
#define X86_EFER_LME (1ull << 8)
#define X86_EFER_LMA (1ull << 10)
#define X86_EFER_NXE (1ull << 11)
#define X86_EFER_SVME (1ull << 12)
#define X86_EFER_FFXSR (1ull << 14)
#define X86_EFER_AUTOIBRS (1ull << 21) /* AMD APM volume 2, 3.1.7 */

/* XCR0 (2.6). */
#define X86_XCR0_X87 (1ull << 0)
#define X86_XCR0_SSE (1ull << 1)
#define X86_XCR0_AVX (1ull << 2)
#define X86_XCR0_OPMASK (1ull << 5)
#define X86_XCR0_ZMM_HI256 (1ull << 6)
#define X86_XCR0_HI16_ZMM (1ull << 7)
#define X86_XCR0_AVX512 (X86_XCR0_OPMASK | X86_XCR0_ZMM_HI256 | X86_XCR0_HI16_ZMM)

/* Values at reset of what the x87 and SSE units hold (SDM volume 3, table 10-1). */
#define X86_FCW_RESET 0x0040u /* at power-on and INIT; FNINIT gives X86_FCW_FNINIT */
#define X86_FCW_FNINIT 0x037fu
#define X86_MXCSR_RESET 0x1f80u
#define X86_PAT_RESET 0x0007040600070406ull /* 12.12.4 */

/* DR6 and DR7 (18.2.3, 18.2.4). */
#define X86_DR6_RESET 0xffff0ff0ull
#define X86_DR6_B(n) (1ull << (n))
#define X86_DR6_BD (1ull << 13)
#define X86_DR6_BS (1ull << 14)
#define X86_DR6_BT (1ull << 15)
#define X86_DR7_RESET 0x400ull
#define X86_DR7_GD (1ull << 13)
#define X86_DR7_GLOBAL(n) (2ull << (2 * (n)))
#define X86_DR7_ENABLED(dr7, n) ((dr7) >> (2 * (n)) & 3)     /* L and G */
#define X86_DR7_TYPE(dr7, n) ((dr7) >> (16 + 4 * (n)) & 3)   /* 0 execute, 1 write, 2 I/O, 3 both */
#define X86_DR7_LENGTH(dr7, n) ((dr7) >> (18 + 4 * (n)) & 3) /* 0: 1 byte, 1: 2, 2: 8, 3: 4 */

/* Exceptions and interrupts (6.3.1, table 6-1). */
enum x86_vector {
    X86_VECTOR_DE = 0,
    X86_VECTOR_DB = 1,
    X86_VECTOR_NMI = 2,
    X86_VECTOR_BP = 3,
    X86_VECTOR_OF = 4,
    X86_VECTOR_BR = 5,
    X86_VECTOR_UD = 6,
    X86_VECTOR_NM = 7,
    X86_VECTOR_DF = 8,
    X86_VECTOR_TS = 10,
    X86_VECTOR_NP = 11,
    X86_VECTOR_SS = 12,
    X86_VECTOR_GP = 13,
    X86_VECTOR_PF = 14,
    X86_VECTOR_MF = 16,
    X86_VECTOR_AC = 17,
    X86_VECTOR_MC = 18,
    X86_VECTOR_XM = 19,
};

/* Error code of #PF (4.7) and of the segment exceptions (6.13). */
#define X86_PF_P (1u << 0)
#define X86_PF_W (1u << 1)
#define X86_PF_U (1u << 2)
#define X86_PF_RSVD (1u << 3)
#define X86_PF_I (1u << 4)
#define X86_PF_PK (1u << 5)
#define X86_ERROR_EXT (1u << 0)
#define X86_ERROR_IDT (1u << 1)
#define X86_ERROR_TI (1u << 2)

/* Paging-structure entries (4.3 to 4.5). */
#define X86_PTE_P (1ull << 0)
#define X86_PTE_W (1ull << 1)
#define X86_PTE_U (1ull << 2)
#define X86_PTE_PWT (1ull << 3)
#define X86_PTE_PCD (1ull << 4)
#define X86_PTE_A (1ull << 5)
#define X86_PTE_D (1ull << 6)
#define X86_PTE_PS (1ull << 7)
#define X86_PTE_G (1ull << 8)
#define X86_PTE_NX (1ull << 63)
#define X86_PTE_FRAME 0x000ffffffffff000ull /* of an entry of 8 bytes */

/* Selectors (3.4.2). */
#define X86_SELECTOR_RPL(s) ((s)&3u)
#define X86_SELECTOR_TI (1u << 2)

/* Types of code and data segments (3.4.5.1), S = 1. */
#define X86_TYPE_ACCESSED 1u
#define X86_TYPE_WRITABLE 2u /* data */
#define X86_TYPE_READABLE 2u /* code */
#define X86_TYPE_EXPAND_DOWN 4u
#define X86_TYPE_CONFORMING 4u
#define X86_TYPE_CODE 8u

/* Types of system descriptors (3.5, table 3-2), S = 0; the 32-bit ones are the 64-bit ones of
 * long mode. */
#define X86_TYPE_TSS16 1u
#define X86_TYPE_LDT 2u
#define X86_TYPE_TSS16_BUSY 3u
#define X86_TYPE_CALL_GATE16 4u
#define X86_TYPE_TASK_GATE 5u
#define X86_TYPE_INTERRUPT_GATE16 6u
#define X86_TYPE_TRAP_GATE16 7u
#define X86_TYPE_TSS 9u
#define X86_TYPE_TSS_BUSY 11u
#define X86_TYPE_CALL_GATE 12u
#define X86_TYPE_INTERRUPT_GATE 14u
#define X86_TYPE_TRAP_GATE 15u

#endif
