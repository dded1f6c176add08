/*
 * What KVM can do on this host: whether it is there and complete, which CPU features guests can
 * have, and how fast supervisor code runs. Control thread; some ten milliseconds at most; leaves
 * nothing behind.
 *
 * The speed is measured because some hosts offer a /dev/kvm that emulates supervisor code (around
 * 1 MIPS where the hardware does thousands): there the software engine is the better one. The probe
 * is a tiny 64-bit guest at CPL 0 that reads a number from a port, counts it down and asks again.
 * The best of a few rounds counts, since the host may take the processor away in any of them.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "engine/kvm/kvm.h"
#include "x86/arch.h"

#define FAST_MIPS 50.0

#define INSTRUCTIONS_PER_TURN 2
#define SHORT_LOOP 1000u
#define LONG_LOOP 50000u
#define ROUNDS 3
/* Where even the short loop is slower than this, the long one would take too long. */
#define TRY_LONG_MIPS 5.0

#define PAGE 4096u
enum { PAGE_PML4, PAGE_PDPT, PAGE_PD, PAGE_CODE, PAGE_COUNT };

static const uint8_t probe_code[] = {
    0xe5, 0x80, /* 1:  in   eax, $0x80 */
    0x89, 0xc1, /*     mov  ecx, eax   */
    0xff, 0xc9, /* 2:  dec  ecx        */
    0x75, 0xfc, /*     jnz  2b         */
    0xeb, 0xf6, /*     jmp  1b         */
};

struct probe_guest {
    int vm_fd, vcpu_fd;
    uint8_t *memory;
    struct kvm_run *run;
    size_t run_size;
};

/* CPUID leaves that x86_cpuid_build() looks at in `supported`. */
static bool leaf_wanted(uint32_t leaf)
{
    return leaf <= 1 || leaf == 7 || leaf == 0xd || (leaf >= 0x80000000 && leaf <= 0x80000004) ||
           leaf == 0x80000007 || leaf == 0x80000008 || leaf == 0x80000021;
}

static int probe_cpuid(int kvm_fd, struct x86_cpuid *out, struct error *err)
{
    const unsigned most = 256;
    struct kvm_cpuid2 *cpuid = calloc(1, sizeof(*cpuid) + most * sizeof(cpuid->entries[0]));

    if (!cpuid)
        return error_set(err, -ENOMEM, "out of memory");
    cpuid->nent = most;
    int r = kvm_ioctl(kvm_fd, KVM_GET_SUPPORTED_CPUID, cpuid);
    if (r < 0) {
        free(cpuid);
        return error_set(err, r, "KVM does not tell its CPU features: %s", strerror(-r));
    }
    out->count = 0;
    for (unsigned i = 0; i < cpuid->nent; i++) {
        const struct kvm_cpuid_entry2 *e = &cpuid->entries[i];
        struct x86_cpuid_leaf leaf = {
            .leaf = e->function,
            .subleaf = e->index,
            .has_subleaf = e->flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX,
            .eax = e->eax,
            .ebx = e->ebx,
            .ecx = e->ecx,
            .edx = e->edx,
        };
        /* The deadline timer is not in KVM's list, since it needs the APIC in the kernel. */
        if (leaf.leaf == 1 && ioctl(kvm_fd, KVM_CHECK_EXTENSION, KVM_CAP_TSC_DEADLINE_TIMER) > 0)
            leaf.ecx |= 1u << 24;
        if (leaf_wanted(leaf.leaf))
            x86_cpuid_add(out, &leaf);
    }
    free(cpuid);
    return 0;
}

static void guest_done(struct probe_guest *guest)
{
    if (guest->run)
        munmap(guest->run, guest->run_size);
    if (guest->vcpu_fd >= 0)
        close(guest->vcpu_fd);
    if (guest->vm_fd >= 0)
        close(guest->vm_fd);
    if (guest->memory)
        munmap(guest->memory, PAGE_COUNT * PAGE);
}

/* Page tables that map the first 2 MiB one to one, and the code. */
static void guest_fill(uint8_t *memory)
{
    uint64_t *pml4 = (uint64_t *)(memory + PAGE_PML4 * PAGE);
    uint64_t *pdpt = (uint64_t *)(memory + PAGE_PDPT * PAGE);
    uint64_t *pd = (uint64_t *)(memory + PAGE_PD * PAGE);

    pml4[0] = PAGE_PDPT * PAGE | X86_PTE_P | X86_PTE_W;
    pdpt[0] = PAGE_PD * PAGE | X86_PTE_P | X86_PTE_W;
    pd[0] = X86_PTE_P | X86_PTE_W | X86_PTE_PS;
    memcpy(memory + PAGE_CODE * PAGE, probe_code, sizeof(probe_code));
}

static int guest_enter_long_mode(struct probe_guest *guest)
{
    struct kvm_segment code = {
        .limit = ~0u, .selector = 8, .type = 11, .present = 1, .s = 1, .l = 1, .g = 1};
    struct kvm_segment data = {
        .limit = ~0u, .selector = 16, .type = 3, .present = 1, .s = 1, .db = 1, .g = 1};
    struct kvm_regs regs = {.rip = PAGE_CODE * PAGE, .rflags = X86_FLAG_FIXED};
    struct kvm_sregs sregs;
    int r = kvm_ioctl(guest->vcpu_fd, KVM_GET_SREGS, &sregs);

    if (r < 0)
        return r;
    sregs.cs = code;
    sregs.ds = sregs.es = sregs.ss = sregs.fs = sregs.gs = data;
    sregs.cr0 = X86_CR0_PE | X86_CR0_ET | X86_CR0_NE | X86_CR0_PG;
    sregs.cr3 = PAGE_PML4 * PAGE;
    sregs.cr4 = X86_CR4_PAE;
    sregs.efer = X86_EFER_LME | X86_EFER_LMA;
    r = kvm_ioctl(guest->vcpu_fd, KVM_SET_SREGS, &sregs);
    return r < 0 ? r : kvm_ioctl(guest->vcpu_fd, KVM_SET_REGS, &regs);
}

static int guest_init(struct probe_guest *guest, int kvm_fd, struct error *err)
{
    struct kvm_userspace_memory_region region = {.memory_size = PAGE_COUNT * PAGE};
    int r;

    *guest = (struct probe_guest){.vm_fd = -1, .vcpu_fd = -1};
    guest->vm_fd = r = kvm_create_vm(kvm_fd, err);
    if (r < 0)
        return r;
    void *memory = mmap(NULL, PAGE_COUNT * PAGE, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    if (memory == MAP_FAILED)
        return error_set(err, -ENOMEM, "out of memory");
    guest->memory = memory;
    guest_fill(guest->memory);
    region.userspace_addr = (uintptr_t)guest->memory;
    r = kvm_ioctl(guest->vm_fd, KVM_SET_USER_MEMORY_REGION, &region);
    if (r < 0)
        goto fail;
    guest->vcpu_fd = r = kvm_ioctl(guest->vm_fd, KVM_CREATE_VCPU, 0);
    if (r < 0)
        goto fail;
    r = ioctl(kvm_fd, KVM_GET_VCPU_MMAP_SIZE, 0);
    guest->run_size = r < (int)sizeof(struct kvm_run) ? sizeof(struct kvm_run) : (size_t)r;
    void *run = mmap(NULL, guest->run_size, PROT_READ | PROT_WRITE, MAP_SHARED, guest->vcpu_fd, 0);
    if (run == MAP_FAILED)
        return error_set(err, -ENOMEM, "out of memory");
    guest->run = run;
    r = guest_enter_long_mode(guest);
    if (r >= 0)
        return 0;
fail:
    return error_set(err, r, "KVM cannot set a test guest up: %s", strerror(-r));
}

static double seconds_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

/* Runs until the guest asks for a number; the seconds it took, or a negative number. */
static double guest_step(struct probe_guest *guest)
{
    double start = seconds_now();
    int r = kvm_ioctl(guest->vcpu_fd, KVM_RUN, NULL);
    double end = seconds_now();

    if (r < 0 || guest->run->exit_reason != KVM_EXIT_IO || end <= start)
        return -1;
    return end - start;
}

/* Million instructions a second with loops of `turns`, 0 if the guest fails. */
static double guest_speed(struct probe_guest *guest, uint32_t turns)
{
    double best = 0;

    for (unsigned i = 0; i < ROUNDS; i++) {
        memcpy((uint8_t *)guest->run + guest->run->io.data_offset, &turns, sizeof(turns));
        double seconds = guest_step(guest);
        if (seconds < 0)
            return 0;
        double mips = turns * INSTRUCTIONS_PER_TURN / seconds * 1e-6;
        best = mips > best ? mips : best;
    }
    return best;
}

static int measure(int kvm_fd, double *mips, struct error *err)
{
    struct probe_guest guest;
    int r = guest_init(&guest, kvm_fd, err);

    if (r)
        goto out;
    *mips = 0;
    if (guest_step(&guest) > 0) /* also pays for the first faults */
        *mips = guest_speed(&guest, SHORT_LOOP);
    if (*mips > TRY_LONG_MIPS)
        *mips = guest_speed(&guest, LONG_LOOP);
    if (*mips <= 0)
        r = error_set(err, -EIO, "KVM cannot run even a test guest of a few instructions");
out:
    guest_done(&guest);
    return r;
}

void kvm_probe(struct engine_info *info)
{
    struct error err;
    int kvm_fd;

    *info = (struct engine_info){.usable = false};
    int r = kvm_open(&kvm_fd, &err);
    if (!r) {
        r = probe_cpuid(kvm_fd, &info->supported, &err);
        if (!r)
            r = measure(kvm_fd, &info->supervisor_mips, &err);
        close(kvm_fd);
    }
    if (r) {
        snprintf(info->reason, sizeof(info->reason), "%.255s", err.text);
        return;
    }
    info->usable = true;
    if (info->supervisor_mips > FAST_MIPS) {
        info->capabilities |= ENGINE_CAP_FAST_SUPERVISOR;
        snprintf(info->reason, sizeof(info->reason), "supervisor code runs at hardware speed");
    } else {
        snprintf(info->reason, sizeof(info->reason),
                 "/dev/kvm works, but emulates supervisor code at %.1f million instructions a "
                 "second",
                 info->supervisor_mips);
    }
}
