/*
 * What protects the supervisor from user pages and user mode from the supervisor's knowledge: SMEP,
 * SMAP with STAC and CLAC, UMIP; and FSGSBASE, PCID with INVPCID, XSAVE and XSETBV, RDTSCP, the
 * machine-check registers.
 */
#include "lib/guest.h"

static USER_DATA uint64_t user_word = 77;

static USER_CODE uint64_t user_nothing(uint64_t x)
{
    return x;
}

static void smep(void)
{
    if (!cpu_has(7, 1, 7)) {
        skip("SMEP", "the CPU has none");
        return;
    }
    TRY("call *%0", : : "r"(user_nothing) : "rax", "memory");
    check_equal("user code at CPL 0 without SMEP", trap.vector, NO_TRAP);
    write_cr4(read_cr4() | CR4_SMEP);
    TRY("call *%0", : : "r"(user_nothing) : "rax", "memory");
    check_equal("user code at CPL 0 with SMEP", trap.vector, PF);
    check_equal("    error code", trap.error, PF_P | PF_I);
    check_equal("    user mode runs it still", user_call(user_nothing, 5), 5);
    write_cr4(read_cr4() & ~CR4_SMEP);
}

static uint64_t load_user(void)
{
    uint64_t value;
    return TRY("mov (%1), %0", : "=r"(value) : "r"(&user_word));
}

static void smap(void)
{
    if (!cpu_has(7, 1, 20)) {
        skip("SMAP", "the CPU has none");
        return;
    }
    check_equal("user data at CPL 0 without SMAP", load_user(), NO_TRAP);
    write_cr4(read_cr4() | CR4_SMAP);
    check_equal("user data at CPL 0 with SMAP", load_user(), PF);
    check_equal("    error code", trap.error, PF_P);
    asm volatile("stac");
    check_equal("    after STAC", load_user(), NO_TRAP);
    asm volatile("clac");
    check_equal("    after CLAC", load_user(), PF);
    asm volatile("pushfq; orl $0x40000, (%%rsp); popfq" ::: "memory", "cc");
    check_equal("    with AC set by POPF", load_user(), NO_TRAP);
    asm volatile("clac");
    /* Descriptor tables are read without regard to AC, and it may not open them. */
    check_equal("    user mode is not concerned", user_call(user_nothing, 6), 6);
    write_cr4(read_cr4() & ~CR4_SMAP);
    TRY("stac", ::);
    check_equal("STAC without CR4.SMAP works", trap.vector, NO_TRAP);
    TRY("clac", ::);
}

static USER_CODE uint64_t user_sgdt(uint64_t x)
{
    uint8_t store[10];
    asm volatile("sgdt %0" : "=m"(store));
    return x;
}

static void umip(void)
{
    if (!cpu_has(7, 2, 2)) {
        skip("UMIP", "the CPU has none");
        return;
    }
    user_call(user_sgdt, 0);
    check_equal("SGDT in user mode without UMIP", trap.vector, NO_TRAP);
    write_cr4(read_cr4() | CR4_UMIP);
    user_call(user_sgdt, 0);
    check_equal("SGDT in user mode with UMIP", trap.vector, GP);
    write_cr4(read_cr4() & ~CR4_UMIP);
}

static void fsgsbase(void)
{
    uint64_t value = 0;

    if (!cpu_has(7, 1, 0)) {
        skip("FSGSBASE", "the CPU has none");
        return;
    }
    TRY("rdfsbase %0", : "=r"(value));
    check_equal("RDFSBASE without CR4.FSGSBASE", trap.vector, UD);
    write_cr4(read_cr4() | CR4_FSGSBASE);
    TRY("wrfsbase %1; rdfsbase %0", : "=r"(value) : "r"(0x0000123456789000ull));
    check_equal("WRFSBASE and RDFSBASE", value, 0x0000123456789000ull);
    check_equal("    the MSR agrees", read_msr(MSR_FS_BASE), value);
    TRY("wrgsbase %0", : : "r"(0x0000800000000000ull));
    check_equal("WRGSBASE of a non-canonical address", trap.vector, GP);
    write_msr(MSR_FS_BASE, (uint64_t)&user_word);
    asm volatile("mov %%fs:0, %0" : "=r"(value));
    check_equal("a load by the FS base that the MSR was given", value, 77);
}

struct invpcid {
    uint64_t pcid, address;
};

static void invpcid(uint64_t type, uint64_t pcid, uint64_t address)
{
    struct invpcid d = {pcid, address};
    asm volatile("invpcid %0, %1" : : "m"(d), "r"(type) : "memory");
}

static void pcid(void)
{
    static const uint64_t address = 0x0000420000000000ull;
    volatile uint64_t *p = (volatile uint64_t *)address;
    uint64_t cr3 = read_cr3(), *one = page_new(), *two = page_new();

    if (!cpu_has(1, 2, 17)) {
        skip("PCID", "the CPU has none");
        return;
    }
    *one = 1;
    *two = 2;
    page_map(address, (uint64_t)one, PTE_P | PTE_W);
    write_cr4(read_cr4() | CR4_PCIDE);
    check("CR4.PCIDE is set", read_cr4() & CR4_PCIDE);
    write_cr3(cr3 | 1);
    check_equal("in PCID 1", *p, 1);
    check_equal("CR3 shows the PCID", read_cr3() & 0xfff, 1);
    page_map(address, (uint64_t)two, PTE_P | PTE_W);
    write_cr3(cr3 | 2);
    check_equal("another PCID has translations of its own", *p, 2);
    write_cr3(cr3 | 1);
    check_equal("MOV to CR3 without bit 63 drops those of the PCID", *p, 2);
    check_equal("    bit 63 does not read back", read_cr3() >> 63, 0);
    TRY("mov %0, %%cr3", : : "r"(cr3 | 1 | 1ull << 63) : "memory");
    check_equal("bit 63 is allowed with PCIDs", trap.vector, NO_TRAP);
    if (cpu_has(7, 1, 10)) {
        page_map(address, (uint64_t)one, PTE_P | PTE_W);
        invpcid(0, 1, address);
        check_equal("INVPCID of one address", *p, 1);
        page_map(address, (uint64_t)two, PTE_P | PTE_W);
        invpcid(1, 1, 0);
        check_equal("INVPCID of one PCID", *p, 2);
        page_map(address, (uint64_t)one, PTE_P | PTE_W);
        invpcid(2, 0, 0);
        check_equal("INVPCID of everything", *p, 1);
        struct invpcid d = {0, 0};
        TRY("invpcid %0, %1", : : "m"(d), "r"(4ull) : "memory");
        check_equal("INVPCID of an unknown type", trap.vector, GP);
    }
    write_cr3(cr3);
    write_cr4(read_cr4() & ~CR4_PCIDE);
    TRY("mov %0, %%cr3", : : "r"(cr3 | 1ull << 63) : "memory");
    check_equal("bit 63 of CR3 without PCIDs", trap.vector, GP);
}

static uint8_t xsave_area[4096] __attribute__((aligned(64)));

static void xsave(void)
{
    uint32_t low = 0, high = 0, out[4];

    if (!cpu_has(1, 2, 26)) {
        skip("XSAVE", "the CPU has none");
        return;
    }
    TRY("xgetbv", : "=a"(low), "=d"(high) : "c"(0));
    check_equal("XGETBV without OSXSAVE", trap.vector, UD);
    check("CPUID hides OSXSAVE", !cpu_has(1, 2, 27));
    TRY("xsave %0", : "+m"(xsave_area) : "a"(1), "d"(0));
    check_equal("XSAVE without OSXSAVE", trap.vector, UD);
    write_cr4(read_cr4() | CR4_OSXSAVE);
    check("CPUID shows OSXSAVE", cpu_has(1, 2, 27));
    TRY("xgetbv", : "=a"(low), "=d"(high) : "c"(0));
    check_equal("XCR0 at reset", low, 1);
    TRY("xsetbv", : : "a"(2), "d"(0), "c"(0));
    check_equal("XCR0 without x87", trap.vector, GP);
    TRY("xsetbv", : : "a"(5), "d"(0), "c"(0));
    check_equal("XCR0 with AVX but not SSE", trap.vector, GP);
    TRY("xsetbv", : : "a"(3), "d"(0), "c"(0));
    check_equal("XCR0 with x87 and SSE", trap.vector, NO_TRAP);
    cpuid(0xd, 0, out);
    check_equal("CPUID: size of the enabled components", out[1], 576);
    TRY("vxorps %%ymm0, %%ymm0, %%ymm0", ::);
    check_equal("AVX without XCR0.AVX", trap.vector, UD);
    write_cr0(read_cr0() | CR0_EM);
    TRY("xsave %0; xrstor %0", : "+m"(xsave_area) : "a"(3), "d"(0));
    check_equal("XSAVE and XRSTOR with EM", trap.vector, NO_TRAP);
    write_cr0((read_cr0() & ~CR0_EM) | CR0_TS);
    TRY("xsave %0", : "+m"(xsave_area) : "a"(3), "d"(0));
    check_equal("XSAVE with TS", trap.vector, NM);
    write_cr0(read_cr0() & ~CR0_TS);
    *(uint64_t *)(xsave_area + 512) = 4;
    TRY("xrstor %0", : : "m"(xsave_area), "a"(3), "d"(0) : "memory");
    check_equal("XRSTOR of AVX without XCR0.AVX", trap.vector, GP);
    asm volatile("fxsave %0" : "=m"(xsave_area));
    *(uint64_t *)(xsave_area + 512) = 0;
    TRY("xrstor %0", : : "m"(xsave_area), "a"(3), "d"(0) : "memory");
    check_equal("    without it in the header", trap.vector, NO_TRAP);
    if (cpu_has(1, 2, 28)) {
        asm volatile("xsetbv" : : "a"(7), "d"(0), "c"(0));
        cpuid(0xd, 0, out);
        check_equal("CPUID: size with AVX", out[1], 832);
        TRY("vpcmpeqd %%xmm1, %%xmm1, %%xmm1; vinsertf128 $1, %%xmm1, %%ymm1, %%ymm1", ::);
        check_equal("AVX with XCR0.AVX", trap.vector, NO_TRAP);
        asm volatile("xsave %0" : "=m"(xsave_area) : "a"(7), "d"(0) : "memory");
        check_equal("XSAVE stores YMM1's upper half", *(uint64_t *)(xsave_area + 576 + 16), ~0ull);
        *(uint64_t *)(xsave_area + 576 + 16) = 5;
        asm volatile("xrstor %0; xsave %0" : "+m"(xsave_area) : "a"(7), "d"(0) : "memory");
        check_equal("XRSTOR loads it", *(uint64_t *)(xsave_area + 576 + 16), 5);
        *(uint64_t *)(xsave_area + 512) &= ~4ull;
        asm volatile("xrstor %0" : : "m"(xsave_area), "a"(7), "d"(0) : "memory");
        *(uint64_t *)(xsave_area + 576 + 16) = 9;
        *(uint64_t *)(xsave_area + 512) = 7;
        asm volatile("vextractf128 $1, %%ymm1, %0" : "=m"(*(uint8_t(*)[16])(xsave_area + 1024)));
        check_equal("XRSTOR of an absent component clears it", *(uint64_t *)(xsave_area + 1024), 0);
        cpuid(0xd, 1, out);
        if (out[0] & 4) {
            asm volatile("vpcmpeqd %ymm1, %ymm1, %ymm1");
            asm volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(1));
            check_equal("XGETBV of what is in use: AVX", low & 4, 4);
            asm volatile("vzeroupper; xgetbv" : "=a"(low), "=d"(high) : "c"(1));
            check_equal("    not after VZEROUPPER", low & 4, 0);
        } else {
            TRY("xgetbv", : "=a"(low), "=d"(high) : "c"(1));
            check_equal("XGETBV of what is in use, where CPUID lacks it", trap.vector, GP);
        }
        *(uint64_t *)(xsave_area + 512) = 1ull << 62;
        TRY("xrstor %0", : : "m"(xsave_area), "a"(7), "d"(0) : "memory");
        check_equal("XRSTOR of components that are not enabled", trap.vector, GP);
    }
    TRY("xsave (%0)", : : "r"(xsave_area + 8), "a"(7), "d"(0) : "memory");
    check_equal("XSAVE to an unaligned address", trap.vector, GP);
}

static void tsc_adjust(void)
{
    const uint64_t step = 1ull << 40;

    if (!cpu_has(7, 1, 1)) {
        TRY("rdmsr", : : "c"(MSR_TSC_ADJUST) : "rax", "rdx");
        check_equal("TSC_ADJUST that CPUID hides", trap.vector, GP);
        return;
    }
    uint64_t adjust = read_msr(MSR_TSC_ADJUST), start = read_tsc();
    write_msr(MSR_TSC_ADJUST, adjust + step);
    uint64_t moved = read_tsc();
    check("TSC_ADJUST moves the TSC", moved - start >= step && moved - start < 2 * step);
    write_msr(MSR_TSC, moved + step);
    uint64_t by = read_msr(MSR_TSC_ADJUST) - adjust - step;
    check("    and a write to the TSC moves it", by > step / 2 && by <= step);
    write_msr(MSR_TSC_ADJUST, adjust);
    check("    back again", read_tsc() - start < step);
}

static void tsc(void)
{
    uint64_t before = read_tsc(), after;

    for (volatile int i = 0; i < 1000; i++)
        ;
    after = read_tsc();
    check("the TSC runs", after > before);
    write_msr(MSR_TSC, 0);
    check("the TSC can be set", read_tsc() < 1000000000);
    if (cpu_has(0x80000001, 3, 27)) {
        uint32_t aux = 0;
        write_msr(0xc0000103, 0x1234);
        asm volatile("rdtscp" : "=c"(aux) : : "rax", "rdx");
        check_equal("RDTSCP reads TSC_AUX", aux, 0x1234);
    }
    write_cr4(read_cr4() | 4);
    TRY("rdtsc", : : : "rax", "rdx");
    check_equal("RDTSC at CPL 0 with CR4.TSD", trap.vector, NO_TRAP);
    write_cr4(read_cr4() & ~4ull);
}

/* Kernels that find the machine-check architecture stop for good if its registers are not there. */
static void machine_check(void)
{
    uint32_t status;

    if (!cpu_has(1, 3, 14)) {
        skip("machine check", "the CPU has none");
        return;
    }
    TRY("rdmsr", : : "c"(MSR_MCG_CAP) : "rax", "rdx");
    check_equal("MCG_CAP can be read", trap.vector, NO_TRAP);
    TRY("rdmsr", : "=a"(status) : "c"(MSR_MCG_STATUS) : "rdx");
    check_equal("MCG_STATUS can be read", trap.vector, NO_TRAP);
    check_equal("    no machine check has happened", status, 0);
    TRY("wrmsr", : : "c"(MSR_MCG_STATUS), "a"(0), "d"(0));
    check_equal("    and be cleared", trap.vector, NO_TRAP);
}

void guest_main(void)
{
    smep();
    smap();
    umip();
    fsgsbase();
    pcid();
    xsave();
    tsc_adjust();
    tsc();
    machine_check();
}
