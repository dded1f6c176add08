/*
 * 4-level paging: permissions at every level and their error codes, reserved bits, page sizes,
 * accessed and dirty bits, WP, NX, INVLPG and global pages. Intel SDM volume 3, 4.5 to 4.10.
 */
#include "lib/guest.h"

#define TEST_ADDRESS 0x0000400000000000ull /* its own PML4 entry */
#define OTHER_ADDRESS 0x0000400000001000ull

static uint8_t *target; /* a page, and what tests map */
static volatile uint64_t *const at = (volatile uint64_t *)TEST_ADDRESS;

static uint64_t load(const volatile void *address)
{
    uint64_t value;
    return TRY("mov (%1), %0", : "=r"(value) : "r"(address));
}

static uint64_t store(volatile void *address)
{
    return TRY("movq $1, (%0)", : : "r"(address) : "memory");
}

static uint64_t execute(const volatile void *address)
{
    return TRY("call *%0", : : "r"(address) : "memory");
}

static USER_CODE uint64_t user_load(uint64_t address)
{
    return *(volatile uint64_t *)address;
}

static USER_CODE uint64_t user_store(uint64_t address)
{
    *(volatile uint64_t *)address = 1;
    return 0;
}

static USER_CODE uint64_t user_execute(uint64_t address)
{
    asm volatile("call *%0" : : "r"(address) : "memory");
    return 0;
}

static void expect_fault(const char *what, uint64_t error, uint64_t address)
{
    check_equal(what, trap.vector, PF);
    if (trap.vector != PF)
        return;
    if (trap.error != error)
        check_equal("    error code", trap.error, error);
    if (trap.cr2 != address)
        check_equal("    CR2", trap.cr2, address);
}

static void expect_none(const char *what)
{
    check_equal(what, trap.vector, NO_TRAP);
}

static void set(uint64_t flags)
{
    page_map(TEST_ADDRESS, (uint64_t)target, flags);
    invlpg(at);
}

static void basic(void)
{
    set(0);
    load(at);
    expect_fault("load from a page that is not present", 0, TEST_ADDRESS);
    store(at);
    expect_fault("store to a page that is not present", PF_W, TEST_ADDRESS);
    execute(at);
    expect_fault("execution of a page that is not present", PF_I, TEST_ADDRESS);
    set(PTE_P | PTE_W);
    store(at);
    expect_none("store to a writable page");
    check_equal("    reaches the frame", *(uint64_t *)target, 1);
    user_call(user_load, TEST_ADDRESS);
    expect_fault("user load from a supervisor page", PF_P | PF_U, TEST_ADDRESS);
    user_call(user_store, TEST_ADDRESS);
    expect_fault("user store to a supervisor page", PF_P | PF_U | PF_W, TEST_ADDRESS);
    user_call(user_execute, TEST_ADDRESS);
    expect_fault("user execution of a supervisor page", PF_P | PF_U | PF_I, TEST_ADDRESS);
    set(PTE_P | PTE_W | PTE_U);
    check_equal("user load from a user page", user_call(user_load, TEST_ADDRESS), 1);
    expect_none("    raises nothing");
    set(PTE_P | PTE_U);
    user_call(user_store, TEST_ADDRESS);
    expect_fault("user store to a read-only page", PF_P | PF_U | PF_W, TEST_ADDRESS);
}

static void write_protect(void)
{
    set(PTE_P);
    store(at);
    expect_fault("supervisor store to a read-only page with WP", PF_P | PF_W, TEST_ADDRESS);
    write_cr0(read_cr0() & ~CR0_WP);
    store(at);
    expect_none("supervisor store to a read-only page without WP");
    set(PTE_P | PTE_U);
    store(at);
    expect_none("the same, of a user page");
    user_call(user_store, TEST_ADDRESS);
    expect_fault("a user store still faults", PF_P | PF_U | PF_W, TEST_ADDRESS);
    write_cr0(read_cr0() | CR0_WP);
    store(at);
    expect_fault("after WP is set again", PF_P | PF_W, TEST_ADDRESS);
}

static void no_execute(void)
{
    target[0] = 0xc3; /* ret */
    set(PTE_P | PTE_W);
    execute(at);
    expect_none("execution of an executable page");
    set(PTE_P | PTE_W | PTE_NX);
    execute(at);
    expect_fault("execution of a no-execute page", PF_P | PF_I, TEST_ADDRESS);
    load(at);
    expect_none("load from it");
    uint64_t *upper = page_entry(TEST_ADDRESS, 3);
    set(PTE_P | PTE_W);
    *upper |= PTE_NX;
    invlpg(at);
    execute(at);
    expect_fault("no-execute at the level of 1 GiB", PF_P | PF_I, TEST_ADDRESS);
    *upper &= ~PTE_NX;
    invlpg(at);

    write_msr(MSR_EFER, read_msr(MSR_EFER) & ~EFER_NXE);
    set(PTE_P | PTE_W | PTE_NX);
    load(at);
    expect_fault("bit 63 is reserved without NXE", PF_P | PF_RSVD, TEST_ADDRESS);
    write_msr(MSR_EFER, read_msr(MSR_EFER) | EFER_NXE);
}

/* The rights of all levels are combined. */
static void levels(void)
{
    static const char *const names[] = {"", "", "2 MiB", "1 GiB", "512 GiB"};

    set(PTE_P | PTE_W | PTE_U);
    for (unsigned level = 2; level <= 4; level++) {
        uint64_t *entry = page_entry(TEST_ADDRESS, level), before = *entry;

        print("-- entry of %s\n", names[level]);
        *entry = before & ~PTE_P;
        invlpg(at);
        load(at);
        expect_fault("not present", 0, TEST_ADDRESS);
        *entry = before & ~PTE_W;
        invlpg(at);
        store(at);
        expect_fault("not writable", PF_P | PF_W, TEST_ADDRESS);
        *entry = before & ~PTE_U;
        invlpg(at);
        user_call(user_load, TEST_ADDRESS);
        expect_fault("supervisor only", PF_P | PF_U, TEST_ADDRESS);
        *entry = before | 1ull << 51;
        invlpg(at);
        load(at);
        expect_fault("reserved address bit", PF_P | PF_RSVD, TEST_ADDRESS);
        if (level == 4) {
            *entry = before | PTE_PS;
            invlpg(at);
            load(at);
            expect_fault("page size bit", PF_P | PF_RSVD, TEST_ADDRESS);
        }
        *entry = before;
        invlpg(at);
        load(at);
        expect_none("restored");
    }
}

static void accessed_dirty(void)
{
    set(PTE_P | PTE_W);
    uint64_t *pte = page_entry(TEST_ADDRESS, 1), *pde = page_entry(TEST_ADDRESS, 2);

    *pde &= ~PTE_A;
    check("A and D are clear at first", !(*pte & (PTE_A | PTE_D)));
    invlpg(at);
    load(at);
    check("a load sets A", *pte & PTE_A);
    check("    also above", *pde & PTE_A);
    check("    but not D", !(*pte & PTE_D));
    store(at);
    check("a store sets D, though the translation is cached", *pte & PTE_D);
    check("    not above", !(*pde & PTE_D));
    set(PTE_P);
    store(at);
    check("a store that faults does not set D", !(*pte & PTE_D));
    set(PTE_P | PTE_W);
    user_call(user_load, TEST_ADDRESS);
    check("a load without the right does not set A in the last level", !(*pte & PTE_A));
    set(PTE_P | PTE_W);
    asm volatile("lock cmpxchg %1, (%0)" : : "r"(at), "r"(2ull), "a"(~0ull) : "memory", "cc");
    check("a CMPXCHG that does not exchange sets D", *pte & PTE_D);
}

static void large_pages(void)
{
    static const uint64_t two = 0x0000480000000000ull, one = 0x0000500000000000ull;
    uint64_t *entry = page_entry(two, 2);
    volatile uint64_t *p = (volatile uint64_t *)(two + 0x123450);

    *entry = (FREE_MEMORY + 0x200000) | PTE_P | PTE_W | PTE_PS;
    *p = 42;
    check_equal("2 MiB page", *(uint64_t *)(FREE_MEMORY + 0x200000 + 0x123450), 42);
    check("    its D and A bits", (*entry & (PTE_D | PTE_A)) == (PTE_D | PTE_A));
    *entry |= 1 << 14;
    invlpg(p);
    load(p);
    expect_fault("    low address bits are reserved", PF_P | PF_RSVD, (uint64_t)p);
    *entry = 0;
    invlpg((void *)two);
    load(p);
    expect_fault("    INVLPG of any address of it drops all", 0, (uint64_t)p);

    if (!cpu_has(0x80000001, 3, 26)) {
        skip("1 GiB pages", "the CPU has none");
        return;
    }
    entry = page_entry(one, 3);
    *entry = 0 | PTE_P | PTE_W | PTE_PS;
    p = (volatile uint64_t *)(one + FREE_MEMORY + 0x345678);
    *p = 43;
    check_equal("1 GiB page", *(uint64_t *)(FREE_MEMORY + 0x345678), 43);
    *entry = 0;
    invlpg((void *)one);
    load(p);
    expect_fault("    INVLPG of any address of it drops all", 0, (uint64_t)p);
}

static void invalidation(void)
{
    uint8_t *other = page_new();

    *(uint64_t *)target = 1;
    *(uint64_t *)other = 2;
    set(PTE_P | PTE_W);
    check_equal("before", *at, 1);
    page_map(TEST_ADDRESS, (uint64_t)other, PTE_P | PTE_W);
    invlpg(at);
    check_equal("INVLPG shows the new frame", *at, 2);
    page_map(TEST_ADDRESS, (uint64_t)target, PTE_P | PTE_W);
    write_cr3(read_cr3());
    check_equal("MOV to CR3 shows the new frame", *at, 1);

    write_cr4(read_cr4() | CR4_PGE);
    page_map(TEST_ADDRESS, (uint64_t)target, PTE_P | PTE_W | PTE_G);
    invlpg(at);
    check_equal("a global page", *at, 1);
    page_map(TEST_ADDRESS, (uint64_t)other, PTE_P | PTE_W | PTE_G);
    invlpg(at);
    check_equal("    INVLPG drops it", *at, 2);
    page_map(TEST_ADDRESS, (uint64_t)target, PTE_P | PTE_W | PTE_G);
    write_cr4(read_cr4() & ~CR4_PGE);
    check_equal("    changing CR4.PGE drops it", *at, 1);

    /* A page that becomes present or wider needs no invalidation: no negative caching. */
    page_map(TEST_ADDRESS, 0, 0);
    invlpg(at);
    load(at);
    page_map(TEST_ADDRESS, (uint64_t)target, PTE_P);
    load(at);
    expect_none("a page made present is seen at once");
    store(at);
    page_map(TEST_ADDRESS, (uint64_t)target, PTE_P | PTE_W);
    store(at);
    expect_none("a page made writable is seen at once, after its fault");
}

static void crossing(void)
{
    uint8_t *first = page_new(), *second = page_new();
    uint64_t edge = TEST_ADDRESS + PAGE_SIZE - 3;

    for (int i = 0; i < 16; i++) {
        first[PAGE_SIZE - 16 + i] = (uint8_t)i;
        second[i] = (uint8_t)(0x80 + i);
    }
    page_map(TEST_ADDRESS, (uint64_t)first, PTE_P | PTE_W);
    page_map(OTHER_ADDRESS, (uint64_t)second, PTE_P | PTE_W);
    invlpg((void *)TEST_ADDRESS);
    invlpg((void *)OTHER_ADDRESS);
    check_equal("a load across two pages", *(volatile uint64_t *)edge, 0x84838281800f0e0d);
    *(volatile uint64_t *)edge = 0x1122334455667788;
    check("a store across two pages", first[PAGE_SIZE - 1] == 0x66 && second[0] == 0x55);
    page_map(OTHER_ADDRESS, (uint64_t)second, PTE_P);
    invlpg((void *)OTHER_ADDRESS);
    store((void *)edge);
    expect_fault("a store whose second page is read-only", PF_P | PF_W, OTHER_ADDRESS);
    check("    changes nothing in the first", first[PAGE_SIZE - 1] == 0x66);
    page_map(OTHER_ADDRESS, 0, 0);
    invlpg((void *)OTHER_ADDRESS);
    load((void *)edge);
    expect_fault("a load whose second page is not present", 0, OTHER_ADDRESS);
}

static void strings(void)
{
    uint8_t *first = page_new();
    uint64_t rdi = TEST_ADDRESS + PAGE_SIZE - 40, rcx = 100, rsi = (uint64_t)target;

    page_map(TEST_ADDRESS, (uint64_t)first, PTE_P | PTE_W);
    page_map(OTHER_ADDRESS, 0, 0);
    invlpg((void *)TEST_ADDRESS);
    invlpg((void *)OTHER_ADDRESS);
    for (int i = 0; i < 100; i++)
        target[i] = (uint8_t)(i + 1);
    TRY("rep movsb", : "+D"(rdi), "+S"(rsi), "+c"(rcx) : : "memory");
    expect_fault("REP MOVSB into a page that is not present", PF_W, OTHER_ADDRESS);
    check_equal("    RCX counts what is left", rcx, 60);
    check_equal("    RDI is where it faulted", rdi, OTHER_ADDRESS);
    check_equal("    RSI", rsi, (uint64_t)target + 40);
    check("    what went before is written", first[PAGE_SIZE - 1] == 40);
    rdi = TEST_ADDRESS + PAGE_SIZE - 40;
    rcx = 100;
    TRY("rep stosq", : "+D"(rdi), "+c"(rcx) : "a"(7) : "memory");
    expect_fault("REP STOSQ into a page that is not present", PF_W, OTHER_ADDRESS);
    check_equal("    RCX counts what is left", rcx, 95);
}

void guest_main(void)
{
    target = page_new();
    basic();
    write_protect();
    no_execute();
    levels();
    accessed_dirty();
    large_pages();
    invalidation();
    crossing();
    strings();
}
