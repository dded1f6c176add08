/*
 * The KVM engine: a VM, its memory slots and the messages to its local APICs.
 *
 * EOI of level-triggered interrupts: KVM reports it (KVM_EXIT_IOAPIC_EOI) only for vectors that a
 * routing entry of a reserved IOAPIC pin sends level-triggered. The board's IOAPIC knows nothing of
 * that; all the engine sees are messages. So each level-triggered message becomes, before it is
 * first sent, such an entry: the entry's destination is then exactly the interrupt's, and another
 * vCPU's use of the same vector is not mistaken for it.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/log.h"
#include "engine/kvm/kvm.h"

/* Four pages that Intel's processors need for real mode, between the local APIC and the firmware
 * (KVM_SET_IDENTITY_MAP_ADDR, KVM_SET_TSS_ADDR). */
#define IDENTITY_MAP_ADDRESS 0xfeffc000ull
#define TSS_ADDRESS 0xfeffd000ull

#define MESSAGE_LEVEL_TRIGGERED (1u << 15)
#define MESSAGE_ASSERT (1u << 14)

int kvm_ioctl(int fd, unsigned long request, void *argument)
{
    int r;

    do
        r = ioctl(fd, request, argument);
    while (r < 0 && errno == EINTR);
    return r < 0 ? -errno : r;
}

int kvm_open(int *out, struct error *err)
{
    int fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);

    if (fd < 0) {
        int code = -errno;
        switch (code) {
        case -ENOENT:
            return error_set(err, code,
                             "/dev/kvm does not exist: the processor or the host's own hypervisor "
                             "offers no virtualization, or kvm_intel or kvm_amd is not loaded");
        case -EACCES:
        case -EPERM:
            return error_set(err, code,
                             "no permission to open /dev/kvm: add this user to the group kvm");
        case -ENODEV:
        case -ENXIO:
            return error_set(err, code,
                             "/dev/kvm has no driver behind it: virtualization is switched off in "
                             "the firmware, or kvm_intel or kvm_amd is not loaded");
        default:
            return error_set(err, code, "cannot open /dev/kvm: %s", strerror(-code));
        }
    }

    static const struct {
        unsigned capability;
        const char *name;
    } needed[] = {
        {KVM_CAP_USER_MEMORY, "user memory"},
        {KVM_CAP_SPLIT_IRQCHIP, "split interrupt controllers"},
        {KVM_CAP_SIGNAL_MSI, "message-signalled interrupts"},
        {KVM_CAP_IMMEDIATE_EXIT, "immediate exit"},
        {KVM_CAP_VCPU_EVENTS, "vCPU events"},
        {KVM_CAP_DEBUGREGS, "debug registers"},
        {KVM_CAP_MP_STATE, "multiprocessor state"},
        {KVM_CAP_XSAVE, "XSAVE"},
        {KVM_CAP_READONLY_MEM, "read-only memory"},
    };
    int version = ioctl(fd, KVM_GET_API_VERSION, 0);
    int r = 0;
    if (version != KVM_API_VERSION)
        r = error_set(err, -ENOTSUP, "/dev/kvm speaks version %d of the interface, not %d", version,
                      KVM_API_VERSION);
    for (unsigned i = 0; !r && i < ARRAY_SIZE(needed); i++) {
        if (ioctl(fd, KVM_CHECK_EXTENSION, needed[i].capability) <= 0)
            r = error_set(err, -ENOTSUP,
                          "the host's KVM lacks %s; a kernel from version 4.19 on has it",
                          needed[i].name);
    }
    if (r) {
        close(fd);
        return r;
    }
    *out = fd;
    return 0;
}

int kvm_create_vm(int kvm_fd, struct error *err)
{
    uint64_t identity_map = IDENTITY_MAP_ADDRESS;
    int fd = kvm_ioctl(kvm_fd, KVM_CREATE_VM, 0);

    if (fd == -EBUSY)
        return error_set(err, fd,
                         "another hypervisor (VirtualBox, VMware) holds the processor's "
                         "virtualization; stop its machines");
    if (fd < 0)
        return error_set(err, fd, "KVM refuses to create a VM: %s", strerror(-fd));
    /* Only Intel's KVM has these ioctls, and only that needs them. */
    (void)ioctl(fd, KVM_SET_IDENTITY_MAP_ADDR, &identity_map);
    (void)ioctl(fd, KVM_SET_TSS_ADDR, TSS_ADDRESS);
    return fd;
}

static int enable(struct engine_vm *vm, unsigned capability, uint64_t argument, const char *what,
                  struct error *err)
{
    struct kvm_enable_cap cap = {.cap = capability, .args = {argument}};
    int r = kvm_ioctl(vm->fd, KVM_ENABLE_CAP, &cap);

    return r < 0 ? error_set(err, r, "KVM cannot switch on %s: %s", what, strerror(-r)) : 0;
}

/* Where a capability is absent the VM runs too, with less in its state. */
static int enable_optional(struct engine_vm *vm, unsigned capability, uint64_t wanted,
                           const char *what, struct error *err)
{
    int offered = ioctl(vm->kvm_fd, KVM_CHECK_EXTENSION, capability);
    if (offered <= 0)
        return 0;
    return enable(vm, capability, wanted, what, err);
}

static int configure(struct engine_vm *vm, struct error *err)
{
    int r = enable(vm, KVM_CAP_SPLIT_IRQCHIP, KVM_LEVEL_ROUTES, "split interrupt controllers", err);
    if (r)
        return r;
    r = enable_optional(vm, KVM_CAP_X2APIC_API,
                        KVM_X2APIC_API_USE_32BIT_IDS | KVM_X2APIC_API_DISABLE_BROADCAST_QUIRK,
                        "32-bit APIC ids", err);
    if (r)
        return r;
    r = enable_optional(vm, KVM_CAP_X86_USER_SPACE_MSR, KVM_MSR_EXIT_REASON_UNKNOWN,
                        "exits for unknown MSRs", err);
    if (r)
        return r;
    /* Not KVM_CAP_EXIT_ON_EMULATION_FAILURE: an instruction of user mode that KVM cannot emulate
     * (SYSENTER in 64-bit mode on AMD's processors) would end the VM, and not only its process. */
    /* A reset local APIC has LINT0 masked; the guest, or the firmware, opens it. */
    return enable_optional(vm, KVM_CAP_DISABLE_QUIRKS, KVM_X86_QUIRK_LINT0_REENABLED,
                           "an exact local APIC reset", err);
}

/* The MSRs this KVM saves and restores, from KVM_GET_MSR_INDEX_LIST. */
static int list_msrs(struct engine_vm *vm, struct error *err)
{
    struct kvm_msr_list count = {.nmsrs = 0};
    int r = kvm_ioctl(vm->kvm_fd, KVM_GET_MSR_INDEX_LIST, &count);

    if (r < 0 && r != -E2BIG)
        return error_set(err, r, "KVM cannot list its MSRs: %s", strerror(-r));
    struct kvm_msr_list *list = calloc(1, sizeof(*list) + count.nmsrs * sizeof(list->indices[0]));
    if (!list)
        return error_set(err, -ENOMEM, "out of memory");
    list->nmsrs = count.nmsrs;
    r = kvm_ioctl(vm->kvm_fd, KVM_GET_MSR_INDEX_LIST, list);
    if (r >= 0) {
        vm->msr_count = list->nmsrs;
        vm->msr_list = malloc(list->nmsrs * sizeof(uint32_t) + 1);
        if (vm->msr_list)
            memcpy(vm->msr_list, list->indices, list->nmsrs * sizeof(uint32_t));
        else
            r = -ENOMEM;
    }
    free(list);
    return r < 0 ? error_set(err, r, "KVM cannot list its MSRs: %s", strerror(-r)) : 0;
}

/* --- memory --- */

static int set_slot(struct engine_vm *vm, unsigned index, const struct memory_slot *slot)
{
    struct kvm_userspace_memory_region region = {
        .slot = index,
        .flags = slot->flags & MEMORY_READONLY ? KVM_MEM_READONLY : 0,
        .guest_phys_addr = slot->gpa,
        .memory_size = slot->size,
        .userspace_addr = (uintptr_t)slot->host,
    };
    return kvm_ioctl(vm->fd, KVM_SET_USER_MEMORY_REGION, &region);
}

static bool same_slot(const struct memory_slot *a, const struct memory_slot *b)
{
    return a->gpa == b->gpa && a->size == b->size && a->host == b->host && a->flags == b->flags;
}

static bool slot_still_there(const struct memory *memory, const struct memory_slot *slot)
{
    for (unsigned i = 0; i < memory->slot_count; i++) {
        if (same_slot(&memory->slot[i], slot))
            return !(slot->flags & MEMORY_HIDDEN);
    }
    return false;
}

/* First takes out what went, so that what comes cannot overlap it. */
static int update_slots(struct engine_vm *vm, struct error *err)
{
    const struct memory *memory = vm->config.memory;

    for (unsigned i = 0; i < MEMORY_MAX_SLOTS; i++) {
        struct memory_slot *slot = &vm->slot[i];
        if (!slot->size || slot_still_there(memory, slot))
            continue;
        slot->size = 0;
        int r = set_slot(vm, i, slot);
        if (r < 0)
            return error_set(err, r, "KVM cannot remove memory at 0x%llx: %s",
                             (unsigned long long)slot->gpa, strerror(-r));
    }
    for (unsigned i = 0; i < memory->slot_count; i++) {
        unsigned free_slot = MEMORY_MAX_SLOTS;
        bool known = memory->slot[i].flags & MEMORY_HIDDEN;
        for (unsigned j = MEMORY_MAX_SLOTS; j-- > 0;) {
            known |= vm->slot[j].size && same_slot(&vm->slot[j], &memory->slot[i]);
            if (!vm->slot[j].size)
                free_slot = j;
        }
        if (known)
            continue;
        int r = set_slot(vm, free_slot, &memory->slot[i]);
        if (r < 0)
            return error_set(err, r, "KVM cannot map %llu KiB of memory at 0x%llx: %s",
                             (unsigned long long)(memory->slot[i].size / KIB),
                             (unsigned long long)memory->slot[i].gpa, strerror(-r));
        vm->slot[free_slot] = memory->slot[i];
    }
    return 0;
}

static int memory_changed(struct engine_vm *vm, gpa_t gpa, uint64_t size, struct error *err)
{
    pthread_mutex_lock(&vm->slot_lock);
    int r = update_slots(vm, err);
    pthread_mutex_unlock(&vm->slot_lock);
    return r;
}

/* --- messages --- */

static bool same_message(const struct kvm_irq_routing_entry *entry, const struct msi_message *m)
{
    return entry->u.msi.address_lo == (uint32_t)m->address &&
           entry->u.msi.address_hi == (uint32_t)(m->address >> 32) && entry->u.msi.data == m->data;
}

/* Sees to it that the EOI of this message will be reported. The oldest of many messages, which the
 * IOAPIC has long stopped using, makes room. */
static void route_level_message(struct engine_vm *vm, const struct msi_message *message)
{
    struct kvm_irq_routing *table = vm->route;

    pthread_mutex_lock(&vm->route_lock);
    for (unsigned i = 0; i < table->nr; i++) {
        if (same_message(&table->entries[i], message))
            goto out;
    }
    unsigned place = vm->route_oldest;
    vm->route_oldest = (place + 1) % KVM_LEVEL_ROUTES;
    if (place == table->nr)
        table->nr++;
    table->entries[place] = (struct kvm_irq_routing_entry){
        .gsi = place,
        .type = KVM_IRQ_ROUTING_MSI,
        .u.msi = {.address_lo = (uint32_t)message->address,
                  .address_hi = (uint32_t)(message->address >> 32),
                  .data = message->data},
    };
    int r = kvm_ioctl(vm->fd, KVM_SET_GSI_ROUTING, table);
    if (r < 0)
        log_error("kvm: no route for interrupt message 0x%x: %s", message->data, strerror(-r));
out:
    pthread_mutex_unlock(&vm->route_lock);
}

static void msi_send_to_vm(struct engine_vm *vm, const struct msi_message *message)
{
    struct msi_message m = *message;

    if (m.data & MESSAGE_LEVEL_TRIGGERED) {
        m.data |= MESSAGE_ASSERT; /* an IOAPIC sends no de-assert; KVM drops what looks like one */
        route_level_message(vm, &m);
    }
    struct kvm_msi msi = {
        .address_lo = (uint32_t)m.address,
        .address_hi = (uint32_t)(m.address >> 32),
        .data = m.data,
    };
    /* 0: no APIC took it, as on the real bus; negative: a malformed message. */
    if (kvm_ioctl(vm->fd, KVM_SIGNAL_MSI, &msi) < 0)
        log_guest("kvm", "message 0x%x to 0x%llx refused", m.data, (unsigned long long)m.address);
}

/* The wire ends at the bootstrap processor: no system opens LINT0 of more than one. */
static void extint_set(struct engine_vm *vm, bool level)
{
    bool before = atomic_exchange(&vm->extint, level);
    if (level && !before && vm->vcpu[0])
        kvm_vcpu_poke(vm->vcpu[0]);
}

/* --- life --- */

static void vm_destroy(struct engine_vm *vm)
{
    if (!vm)
        return;
    if (vm->fd >= 0)
        close(vm->fd);
    if (vm->kvm_fd >= 0)
        close(vm->kvm_fd);
    pthread_mutex_destroy(&vm->route_lock);
    pthread_mutex_destroy(&vm->slot_lock);
    free(vm->msr_list);
    free(vm->route);
    free(vm->vcpu);
    free(vm);
}

static int vm_create(struct engine_vm **out, const struct engine_vm_config *config,
                     struct error *err)
{
    struct engine_vm *vm;
    int r;

    if (config->debug)
        return error_set(err, -EINVAL,
                         "the engine kvm has nothing to report: --debug goes with "
                         "--engine dbt");
    vm = calloc(1, sizeof(*vm));
    if (!vm)
        return error_set(err, -ENOMEM, "out of memory");
    vm->kvm_fd = vm->fd = -1;
    vm->config = *config;
    pthread_mutex_init(&vm->route_lock, NULL);
    pthread_mutex_init(&vm->slot_lock, NULL);
    vm->vcpu = calloc(config->vcpus, sizeof(vm->vcpu[0]));
    vm->route = calloc(1, sizeof(*vm->route) + KVM_LEVEL_ROUTES * sizeof(vm->route->entries[0]));
    if (!vm->vcpu || !vm->route) {
        r = error_set(err, -ENOMEM, "out of memory");
        goto fail;
    }
    r = kvm_open(&vm->kvm_fd, err);
    if (r)
        goto fail;
    int most = ioctl(vm->kvm_fd, KVM_CHECK_EXTENSION, KVM_CAP_MAX_VCPUS);
    if (most > 0 && config->vcpus > (unsigned)most) {
        r = error_set(err, -EINVAL, "%u vCPUs are more than the %d that this host's KVM takes",
                      config->vcpus, most);
        goto fail;
    }
    r = kvm_create_vm(vm->kvm_fd, err);
    if (r < 0)
        goto fail;
    vm->fd = r;
    r = ioctl(vm->kvm_fd, KVM_GET_VCPU_MMAP_SIZE, 0);
    if (r < (int)sizeof(struct kvm_run)) {
        r = error_set(err, -ENOTSUP, "KVM shares too small a page with its user");
        goto fail;
    }
    vm->run_size = (size_t)r;
    r = configure(vm, err);
    if (r)
        goto fail;
    r = list_msrs(vm, err);
    if (r)
        goto fail;
    r = update_slots(vm, err);
    if (r)
        goto fail;
    *out = vm;
    return 0;
fail:
    vm_destroy(vm);
    return r;
}

const struct engine_ops engine_kvm = {
    .name = "kvm",
    .description = "hardware virtualization through /dev/kvm",
    .probe = kvm_probe,
    .vm_create = vm_create,
    .vm_destroy = vm_destroy,
    .memory_changed = memory_changed,
    .time_hold = kvm_time_hold,
    .vcpu_create = kvm_vcpu_create,
    .vcpu_destroy = kvm_vcpu_destroy,
    .run = kvm_vcpu_run,
    .kick = kvm_vcpu_kick,
    .get_state = kvm_vcpu_get_state,
    .set_state = kvm_vcpu_set_state,
    .set_debug = kvm_vcpu_set_debug,
    .stats = kvm_stats,
    .msi_send = msi_send_to_vm,
    .extint_set = extint_set,
    .nmi = kvm_vcpu_nmi,
};
