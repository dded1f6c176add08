/*
 * Numbers and bits of model-specific registers (Intel SDM volume 4, table 2-2; AMD's in the
 * 0xc0010000 range from APM volume 2, appendix A; KVM's from the kernel's
 * Documentation/virt/kvm/x86/msr.rst).
 */
#ifndef SILL_X86_MSR_H
#define SILL_X86_MSR_H

#define MSR_TSC 0x10
#define MSR_PLATFORM_ID 0x17
#define MSR_APIC_BASE 0x1b
#define MSR_FEATURE_CONTROL 0x3a
#define MSR_TSC_ADJUST 0x3b
#define MSR_SPEC_CTRL 0x48
#define MSR_PRED_CMD 0x49
#define MSR_UCODE_WRITE 0x79
#define MSR_UCODE_REVISION 0x8b
#define MSR_PLATFORM_INFO 0xce
#define MSR_MTRR_CAP 0xfe
#define MSR_ARCH_CAPABILITIES 0x10a
#define MSR_FLUSH_CMD 0x10b
#define MSR_SYSENTER_CS 0x174
#define MSR_SYSENTER_ESP 0x175
#define MSR_SYSENTER_EIP 0x176
#define MSR_MCG_CAP 0x179
#define MSR_MCG_STATUS 0x17a
#define MSR_MCG_CTL 0x17b
#define MSR_MISC_ENABLE 0x1a0
#define MSR_DEBUGCTL 0x1d9
#define MSR_MTRR_PHYS_BASE(n) (0x200 + 2 * (n)) /* n 0..7 */
#define MSR_MTRR_PHYS_MASK(n) (0x201 + 2 * (n))
#define MSR_MTRR_FIX64K_00000 0x250
#define MSR_MTRR_FIX16K_80000 0x258
#define MSR_MTRR_FIX16K_A0000 0x259
#define MSR_MTRR_FIX4K_C0000 0x268 /* to 0x26f, each 32 KiB further */
#define MSR_PAT 0x277
#define MSR_MTRR_DEF_TYPE 0x2ff
#define MSR_MC0_CTL 0x400
#define MSR_TSC_DEADLINE 0x6e0
#define MSR_X2APIC_FIRST 0x800
#define MSR_X2APIC_LAST 0x8ff
#define MSR_XSS 0xda0

#define MSR_EFER 0xc0000080
#define MSR_STAR 0xc0000081
#define MSR_LSTAR 0xc0000082
#define MSR_CSTAR 0xc0000083
#define MSR_SFMASK 0xc0000084
#define MSR_FS_BASE 0xc0000100
#define MSR_GS_BASE 0xc0000101
#define MSR_KERNEL_GS_BASE 0xc0000102
#define MSR_TSC_AUX 0xc0000103

#define MSR_AMD_SYSCFG 0xc0010010
#define MSR_AMD_HWCR 0xc0010015
#define MSR_AMD_NB_CFG 0xc001001f
#define MSR_AMD_VIRT_SPEC_CTRL 0xc001011f
#define MSR_AMD_LS_CFG 0xc0011020
#define MSR_AMD_DE_CFG 0xc0011029

/* The paravirtual clock; the two numbers of KVM's first version still work. */
#define MSR_KVM_WALL_CLOCK_OLD 0x11
#define MSR_KVM_SYSTEM_TIME_OLD 0x12
#define MSR_KVM_WALL_CLOCK 0x4b564d00
#define MSR_KVM_SYSTEM_TIME 0x4b564d01
#define MSR_KVM_ASYNC_PF_EN 0x4b564d02
#define MSR_KVM_STEAL_TIME 0x4b564d03
#define MSR_KVM_PV_EOI_EN 0x4b564d04
#define MSR_KVM_POLL_CONTROL 0x4b564d05
#define MSR_KVM_FIRST 0x4b564d00
#define MSR_KVM_LAST 0x4b564dff

/* APIC_BASE (SDM volume 3, 11.4.4 and 11.12.1). */
#define APIC_BASE_BSP (1ull << 8)
#define APIC_BASE_X2APIC (1ull << 10)
#define APIC_BASE_ENABLE (1ull << 11)
#define APIC_BASE_DEFAULT 0xfee00000ull

/* MISC_ENABLE (SDM volume 4, table 2-2). */
#define MISC_ENABLE_FAST_STRINGS (1ull << 0)
#define MISC_ENABLE_BTS_UNAVAILABLE (1ull << 11)
#define MISC_ENABLE_PEBS_UNAVAILABLE (1ull << 12)
#define MISC_ENABLE_MWAIT (1ull << 18)
#define MISC_ENABLE_LIMIT_CPUID (1ull << 22)

/* MTRR_CAP and MTRR_DEF_TYPE (SDM volume 3, 12.11.1 and 12.11.2.1). */
#define MTRR_CAP_VARIABLE 8ull
#define MTRR_CAP_FIXED (1ull << 8)
#define MTRR_CAP_WC (1ull << 10)
#define MTRR_DEF_TYPE_FIXED_ENABLE (1ull << 10)
#define MTRR_DEF_TYPE_ENABLE (1ull << 11)

/* ARCH_CAPABILITIES: what the processor does not suffer from (SDM volume 4, table 2-2). */
#define ARCH_CAP_RDCL_NO (1ull << 0)
#define ARCH_CAP_IBRS_ALL (1ull << 1)
#define ARCH_CAP_SKIP_L1DFL_VMENTRY (1ull << 3)
#define ARCH_CAP_SSB_NO (1ull << 4)
#define ARCH_CAP_MDS_NO (1ull << 5)
#define ARCH_CAP_PSCHANGE_MC_NO (1ull << 6)
#define ARCH_CAP_TAA_NO (1ull << 8)
#define ARCH_CAP_SBDR_SSDP_NO (1ull << 13)
#define ARCH_CAP_FBSDP_NO (1ull << 14)
#define ARCH_CAP_PSDP_NO (1ull << 15)
#define ARCH_CAP_BHI_NO (1ull << 20)
#define ARCH_CAP_PBRSB_NO (1ull << 24)
#define ARCH_CAP_GDS_NO (1ull << 26)
#define ARCH_CAP_RFDS_NO (1ull << 27)
#define ARCH_CAP_ITS_NO (1ull << 62)

#endif
