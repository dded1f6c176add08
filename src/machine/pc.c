/*
 * Construction and lifecycle of the board "pc-1"; see pc.h for the picture.
 *
 * What exists and in which order is the table `build_steps` below and the few functions it names.
 * Each device is put on the list as soon as it exists, so that taking the board down is the same
 * after a failure half-way and at the end of a run.
 */
#include "machine/pc_internal.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "boot/boot.h"
#include "dev/legacy/debug_exit.h"
#include "dev/legacy/debugcon.h"
#include "dev/legacy/i8042.h"
#include "dev/legacy/i8254.h"
#include "dev/legacy/port92.h"
#include "dev/legacy/post.h"
#include "dev/legacy/pvpanic.h"
#include "dev/legacy/testdev.h"
#include "dev/legacy/uart16550.h"
#include "dev/pci/lpc.h"
#include "dev/virtio/virtio_console.h"
#include "dev/virtio/virtio_rng.h"

/* ISA interrupts of the board's own devices. */
enum {
    ISA_IRQ_TIMER = 0,
    ISA_IRQ_KEYBOARD = 1,
    ISA_IRQ_COM1 = 4,
    ISA_IRQ_RTC = 8,
    ISA_IRQ_SCI = 9,
    ISA_IRQ_MOUSE = 12,
};

#define ISA_IRQ_CASCADE 2
#define COM1_PORT 0x3f8

/* GSIs that the HPET's comparators may drive: PCI's PIRQA to PIRQD, which no slot of this board
 * uses (lpc_pirq()). */
#define HPET_FIRST_GSI 16
#define HPET_LAST_GSI 19

/* CMOS byte that tells firmware how many CPUs to wait for, less one. */
#define CMOS_CPUS 0x5f

int pc_out_of_memory(struct error *err)
{
    return error_set(err, -ENOMEM, "no memory for the devices of the VM");
}

void pc_add_device(struct pc *pc, struct device *device)
{
    assert(pc->device_count < PC_MAX_DEVICES);
    pc->device[pc->device_count++] = device;
}

void pc_insert_device(struct pc *pc, const struct device *before, struct device *device)
{
    bool all_started = pc->started == pc->device_count;
    unsigned at = 0;

    assert(pc->device_count < PC_MAX_DEVICES);
    while (pc->device[at++] != before) {
    }
    memmove(&pc->device[at + 1], &pc->device[at],
            (pc->device_count++ - at) * sizeof(pc->device[0]));
    pc->device[at] = device;
    pc->started += all_started;
}

void pc_take_device(struct pc *pc, const struct device *device)
{
    unsigned at = 0;

    while (pc->device[at] != device)
        at++;
    memmove(&pc->device[at], &pc->device[at + 1],
            (--pc->device_count - at) * sizeof(pc->device[0]));
    pc->started -= at < pc->started;
}

struct irq_line pc_isa_line(struct pc *pc, unsigned irq)
{
    return gsi_driver(&pc->gsi, gsi_of_isa(irq));
}

/* ---- the build steps ---- */

#define CPUID_VERSION 1u
#define CPUID_ADDRESS_SIZES 0x80000008

/* CPU model and engine VM; how far the CPU can address decides about the layout of memory. */
static int add_memory_and_engine(struct pc *pc, struct error *err)
{
    const struct pc_config *config = &pc->config;
    struct engine_vm_config engine = {
        .memory = &pc->memory,
        .clock = pc->clock,
        .vcpus = config->cpus,
        .code_cache_size = config->code_cache_size,
        .debug = config->engine_debug,
        .callbacks = pc_engine_callbacks(pc),
    };
    int result =
        x86_cpuid_build(&engine.cpuid, config->cpu_model, config->cpus, config->engine_cpuid, err);
    if (result)
        return result;

    pc_uefi_limit_cpuid(pc, &engine.cpuid);
    const struct x86_cpuid_leaf *sizes = x86_cpuid_find(&engine.cpuid, CPUID_ADDRESS_SIZES, 0);
    const struct x86_cpuid_leaf *version = x86_cpuid_find(&engine.cpuid, CPUID_VERSION, 0);
    if (version) {
        pc->cpu_signature = version->eax;
        pc->cpu_features = version->edx;
    }
    unsigned phys_bits = sizes ? sizes->eax & 0xff : 36; /* 36: what PAE always could */
    result = layout_init(&pc->layout, config->memory, phys_bits, err);
    if (!result)
        result = memory_add(&pc->memory, 0, LAYOUT_VGA_BASE, 0, "ram-low", err);
    if (!result)
        result = memory_add(&pc->memory, LAYOUT_HIGH_BASE,
                            pc->layout.ram_below_4g - LAYOUT_HIGH_BASE, 0, "ram", err);
    if (!result && pc->layout.ram_above_4g)
        result = memory_add(&pc->memory, LAYOUT_RAM_ABOVE_BASE, pc->layout.ram_above_4g, 0,
                            "ram-high", err);
    if (!result)
        result = pc_add_uefi_memory(pc, err);
    if (!result)
        result = config->engine->vm_create(&pc->engine_vm, &engine, err);
    if (!result)
        config->engine->time_hold(pc->engine_vm, true);
    return result;
}

static int add_vcpus(struct pc *pc, struct error *err)
{
    for (unsigned i = 0; i < pc->config.cpus; i++) {
        int result = pc->config.engine->vcpu_create(&pc->vcpu[i], pc->engine_vm, i, err);
        if (result)
            return result;
    }
    return 0;
}

/* The wires are reset first: what devices say in their own reset must come after. */
static int add_interrupt_controllers(struct pc *pc, struct error *err)
{
    const struct irq_line extint = pc_extint_line(pc), unconnected = {0};

    pc_add_device(pc, gsi_wires_device(&pc->gsi));

    if (i8259_new(&pc->pic, &extint))
        return pc_out_of_memory(err);
    pc_add_device(pc, i8259_device(pc->pic));
    int result = i8259_attach(pc->pic, &pc->bus, err);
    if (result)
        return result;

    if (ioapic_new(&pc->ioapic, &pc->msi))
        return pc_out_of_memory(err);
    pc_add_device(pc, ioapic_device(pc->ioapic));
    result = ioapic_attach(pc->ioapic, &pc->bus, LAYOUT_IOAPIC_BASE, err);
    if (result)
        return result;

    for (unsigned gsi = 0; gsi < GSI_COUNT; gsi++) {
        struct irq_line ioapic = ioapic_input(pc->ioapic, gsi);
        gsi_connect(&pc->gsi, gsi, &unconnected, &ioapic);
    }
    for (unsigned irq = 0; irq < I8259_INPUTS; irq++) {
        if (irq == ISA_IRQ_CASCADE)
            continue;
        struct irq_line pic = i8259_input(pc->pic, irq);
        struct irq_line ioapic = ioapic_input(pc->ioapic, gsi_of_isa(irq));
        gsi_connect(&pc->gsi, gsi_of_isa(irq), &pic, &ioapic);
    }
    return 0;
}

/* The HPET stands between the older timers and their interrupts (legacy replacement). */
static int add_timers(struct pc *pc, struct error *err)
{
    struct hpet_config hpet = {
        .clock = pc->clock,
        .isa_timer = pc_isa_line(pc, ISA_IRQ_TIMER),
        .isa_rtc = pc_isa_line(pc, ISA_IRQ_RTC),
        .msi = pc->msi,
    };
    for (unsigned gsi = HPET_FIRST_GSI; gsi <= HPET_LAST_GSI; gsi++)
        hpet.route[gsi] = gsi_driver(&pc->gsi, gsi);
    if (hpet_new(&pc->hpet, &hpet))
        return pc_out_of_memory(err);
    pc_add_device(pc, hpet_device(pc->hpet));
    int result = hpet_attach(pc->hpet, &pc->bus, LAYOUT_HPET_BASE, err);
    if (result)
        return result;

    struct i8254 *pit;
    struct irq_line timer_line = hpet_timer_input(pc->hpet);
    if (i8254_new(&pit, pc->clock, &timer_line))
        return pc_out_of_memory(err);
    pc_add_device(pc, i8254_device(pit));
    result = i8254_attach(pit, &pc->bus, err);
    if (result)
        return result;

    struct mc146818_config rtc_config = {.clock = pc->clock, .irq = hpet_rtc_input(pc->hpet)};
    if (mc146818_new(&pc->rtc, &rtc_config))
        return pc_out_of_memory(err);
    pc_add_device(pc, mc146818_device(pc->rtc));
    mc146818_set_memory(pc->rtc, pc->layout.ram_below_4g, pc->layout.ram_above_4g);
    mc146818_set_byte(pc->rtc, CMOS_CPUS, (uint8_t)(pc->config.cpus - 1));
    return mc146818_attach(pc->rtc, &pc->bus, err);
}

static int add_serial(struct pc *pc, struct error *err)
{
    struct uart16550 *uart;
    struct irq_line line = pc_isa_line(pc, ISA_IRQ_COM1);
    if (uart16550_new(&uart, "serial0", pc->clock, &line, pc->config.serial))
        return pc_out_of_memory(err);
    pc_add_device(pc, uart16550_device(uart));
    return uart16550_attach(uart, &pc->bus, COM1_PORT, err);
}

static int add_keyboard(struct pc *pc, struct error *err)
{
    struct i8042 *kbc;

    pc->input = input_new();
    if (!pc->input)
        return pc_out_of_memory(err);
    struct i8042_config config = {
        .clock = pc->clock,
        .keyboard_irq = pc_isa_line(pc, ISA_IRQ_KEYBOARD),
        .mouse_irq = pc_isa_line(pc, ISA_IRQ_MOUSE),
        .events = &pc->config.events,
        .input = pc->input,
    };
    if (i8042_new(&kbc, &config))
        return pc_out_of_memory(err);
    pc_add_device(pc, i8042_device(kbc));
    return i8042_attach(kbc, &pc->bus, err);
}

static int add_chipset_ports(struct pc *pc, struct error *err)
{
    struct port92 *port92;
    if (port92_new(&port92, &pc->config.events))
        return pc_out_of_memory(err);
    pc_add_device(pc, port92_device(port92));
    int result = port92_attach(port92, &pc->bus, err);
    if (result)
        return result;

    struct post *post;
    if (post_new(&post))
        return pc_out_of_memory(err);
    pc_add_device(pc, post_device(post));
    result = post_attach(post, &pc->bus, err);
    if (result)
        return result;

    struct acpi_pm_config pm = {
        .clock = pc->clock,
        .sci = pc_isa_line(pc, ISA_IRQ_SCI),
        .events = &pc->config.events,
        .acpi_enabled = pc->config.kernel != NULL,
    };
    if (acpi_pm_new(&pc->acpi_pm, &pm))
        return pc_out_of_memory(err);
    pc_add_device(pc, acpi_pm_device(pc->acpi_pm));
    struct irq_line alarm = acpi_pm_rtc_input(pc->acpi_pm);
    mc146818_connect_alarm(pc->rtc, &alarm);
    return acpi_pm_attach(pc->acpi_pm, &pc->bus, err);
}

/* lpc_config.set_pm_base: a guest may ask for a place that is taken; the block is nowhere then. */
static void set_pm_base(void *opaque, uint16_t base)
{
    struct pc *pc = opaque;
    struct error err;
    if (acpi_pm_set_base(pc->acpi_pm, base, &err))
        log_guest("lpc", "PMBASE %#x: %s", base, err.text);
}

static int memory_changed(void *opaque, gpa_t gpa, uint64_t size, struct error *err)
{
    struct pc *pc = opaque;
    return pc->config.engine->memory_changed(pc->engine_vm, gpa, size, err);
}

void pc_ask_rearrange(void *opaque)
{
    struct pc *pc = opaque;
    board_rearrange(&pc->config.events);
}

/* Direct boot has no firmware to place ECAM and the ACPI block, so they start where the tables say
 * they are. */
static int add_pci(struct pc *pc, struct error *err)
{
    bool direct_boot = pc->config.kernel != NULL;
    struct pci_host_config host = {
        .bus = &pc->bus,
        .memory = &pc->memory,
        .msi = pc->msi,
        .ecam_base = direct_boot ? LAYOUT_ECAM_BASE : 0,
        .reset_control = acpi_pm_reset_region(pc->acpi_pm),
        .memory_changed = memory_changed,
        .opaque = pc,
        .shadowed = direct_boot,
    };
    int result = pci_host_new(&pc->pci_host, &host, err);
    if (result)
        return result;
    pc_add_device(pc, pci_host_device(pc->pci_host));
    pci_host_bus(pc->pci_host)->remap = (struct pci_remap){pc, pc_ask_rearrange, memory_changed};

    struct lpc_config lpc_config = {
        .initial_pm_base = direct_boot ? ACPI_PM_DEFAULT_BASE : 0,
        .set_pm_base = set_pm_base,
        .pm_opaque = pc,
    };
    for (unsigned pirq = 0; pirq < LPC_PIRQS; pirq++) {
        lpc_config.ioapic[pirq] = gsi_driver(&pc->gsi, LPC_PIRQ_FIRST_PIN + pirq);
        /* The two ISA interrupts that no ISA device of this board has, in turn. */
        lpc_config.initial_route[pirq] = direct_boot ? 10 + pirq % 2 : 0;
    }
    for (unsigned irq = 3; irq < LPC_ISA_IRQS; irq++)
        lpc_config.isa[irq] = gsi_pic_driver(&pc->gsi, irq);
    struct lpc *lpc;
    result = lpc_new(&lpc, pci_host_bus(pc->pci_host), &lpc_config, err);
    if (!result)
        pc_add_device(pc, lpc_device(lpc));
    return result;
}

static int add_debug_exit(struct pc *pc, const struct pc_extra *extra, const char *name,
                          struct error *err)
{
    struct debug_exit *dev;
    if (debug_exit_new(&dev, &pc->config.events))
        return pc_out_of_memory(err);
    pc_add_device(pc, debug_exit_device(dev));
    return debug_exit_attach(dev, &pc->bus, extra->port, err);
}

static int add_debugcon(struct pc *pc, const struct pc_extra *extra, const char *name,
                        struct error *err)
{
    struct debugcon *dev;
    if (debugcon_new(&dev, name, extra->backend))
        return pc_out_of_memory(err);
    pc_add_device(pc, debugcon_device(dev));
    return debugcon_attach(dev, &pc->bus, extra->port, err);
}

static int add_pvpanic(struct pc *pc, const struct pc_extra *extra, const char *name,
                       struct error *err)
{
    struct pvpanic *dev;
    if (pvpanic_new(&dev, &pc->config.events))
        return pc_out_of_memory(err);
    pc_add_device(pc, pvpanic_device(dev));
    return pvpanic_attach(dev, &pc->bus, PVPANIC_DEFAULT_PORT, err);
}

static int add_testdev(struct pc *pc, const struct pc_extra *extra, const char *name,
                       struct error *err)
{
    struct testdev *dev;
    struct irq_line lines[TESTDEV_LINES];
    for (unsigned gsi = 0; gsi < TESTDEV_LINES; gsi++)
        lines[gsi] = gsi_driver(&pc->gsi, gsi);
    if (testdev_new(&dev, &pc->memory, lines))
        return pc_out_of_memory(err);
    pc_add_device(pc, testdev_device(dev));
    return testdev_attach(dev, &pc->bus, err);
}

static int add_virtio_console(struct pc *pc, const struct pc_extra *extra, const char *name,
                              struct error *err)
{
    struct virtio_pci_config config = {name, pci_host_bus(pc->pci_host), PCI_DEVFN_AUTO};
    struct device *device;
    int result = virtio_console_new(&device, &config, extra->backend, err);
    if (!result)
        pc_add_device(pc, device);
    return result;
}

static int add_virtio_rng(struct pc *pc, const struct pc_extra *extra, const char *name,
                          struct error *err)
{
    struct virtio_pci_config config = {name, pci_host_bus(pc->pci_host), PCI_DEVFN_AUTO};
    struct device *device;
    int result = virtio_rng_new(&device, &config, err);
    if (!result)
        pc_add_device(pc, device);
    return result;
}

static int add_extras(struct pc *pc, struct error *err)
{
    static const struct {
        const char *name; /* of the device; a number follows */
        int (*add)(struct pc *pc, const struct pc_extra *extra, const char *name,
                   struct error *err);
    } kinds[] = {
        [PC_DEBUG_EXIT] = {"debug-exit", add_debug_exit},
        [PC_DEBUGCON] = {"debugcon", add_debugcon},
        [PC_PVPANIC] = {"pvpanic", add_pvpanic},
        [PC_TESTDEV] = {"testdev", add_testdev},
        [PC_USB_KEYBOARD] = {"usb-keyboard", pc_add_usb_keyboard},
        [PC_USB_TABLET] = {"usb-tablet", pc_add_usb_tablet},
        [PC_VIRTIO_CONSOLE] = {"console", add_virtio_console},
        [PC_VIRTIO_RNG] = {"rng", add_virtio_rng},
    };
    for (unsigned i = 0; i < pc->config.extra_count; i++) {
        const struct pc_extra *extra = &pc->config.extras[i];
        char *name = pc->extra_name[i];
        snprintf(name, sizeof(pc->extra_name[i]), "%s%u", kinds[extra->kind].name, i);
        int result = kinds[extra->kind].add(pc, extra, name, err);
        if (result)
            return result;
    }
    return 0;
}

/* The board. Guests see this order in slots and saved states in the sequence of devices. */
static int (*const build_steps[])(struct pc *pc, struct error *err) = {
    add_memory_and_engine,
    add_vcpus,
    add_interrupt_controllers,
    add_timers,
    add_serial,
    add_keyboard,
    add_chipset_ports,
    pc_add_fw_cfg,
    add_pci,
    pc_add_bios,
    pc_add_display,
    pc_add_uefi_flash,
    pc_add_floppies,
    pc_add_storage,
    pc_add_nets,
    add_extras,
    pc_add_slots,
    pc_finish_firmware,
};

/* ---- lifecycle ---- */

int pc_new(struct pc **out, const struct pc_config *config, struct error *err)
{
    struct pc *pc = calloc(1, sizeof(*pc));
    if (!pc)
        return error_set(err, -ENOMEM, "no memory for the board of the VM");
    pc->config = *config;
    pc->msi = pc_msi_sink(pc);
    memory_init(&pc->memory, config->huge_pages ? MEMORY_HUGE_PAGES : 0);
    bus_init(&pc->bus);
    gsi_wires_init(&pc->gsi);

    int result = clock_new(&pc->clock, err);
    if (!result)
        clock_stop(pc->clock);
    for (size_t i = 0; i < ARRAY_SIZE(build_steps) && !result; i++)
        result = build_steps[i](pc, err);
    if (result) {
        pc_free(pc);
        return result;
    }
    *out = pc;
    return 0;
}

void pc_free(struct pc *pc)
{
    if (!pc)
        return;
    /* First what sends interrupts, then who takes them. */
    while (pc->device_count) {
        struct device *device = pc->device[--pc->device_count];
        device->ops->destroy(device);
    }
    for (unsigned i = 0; i < PC_MAX_CPUS && pc->vcpu[i]; i++)
        pc->config.engine->vcpu_destroy(pc->vcpu[i]);
    if (pc->engine_vm)
        pc->config.engine->vm_destroy(pc->engine_vm);
    if (pc->clock)
        clock_free(pc->clock);
    display_free(pc->display);
    input_free(pc->input);
    bus_done(&pc->bus);
    memory_done(&pc->memory);
    uefi_store_close(&pc->uefi_store);
    free(pc);
}

static bool has_extra(const struct pc *pc, enum pc_extra_kind kind)
{
    for (unsigned i = 0; i < pc->config.extra_count; i++) {
        if (pc->config.extras[i].kind == kind)
            return true;
    }
    return false;
}

struct board_description pc_describe(struct pc *pc)
{
    return (struct board_description){
        .layout = &pc->layout,
        .cpus = pc->config.cpus,
        .cpu_signature = pc->cpu_signature,
        .cpu_features = pc->cpu_features,
        .hpet = true,
        .i8042 = true,
        .floppy = pc->config.floppy_count > 0,
        .vga = pc_has_vga(pc),
        .serial = true,
        .pvpanic = has_extra(pc, PC_PVPANIC),
        .name = pc->config.name,
    };
}

/* Everything that firmware would do: resources, tables, kernel. */
static int direct_boot(struct pc *pc, struct x86_vcpu_state *state, struct error *err)
{
    const struct pci_windows windows = {
        .memory32_base = LAYOUT_PCI32_BASE,
        .memory32_size = LAYOUT_PCI32_SIZE,
        .memory64_base = pc->layout.pci64_base,
        .memory64_size = pc->layout.pci64_size,
        .io_base = LAYOUT_PCI_IO_BASE,
        .io_size = LAYOUT_PCI_IO_SIZE,
    };
    const struct board_description description = pc_describe(pc);
    struct board_tables tables;

    int result = pci_assign_resources(pci_host_bus(pc->pci_host), &windows, err);
    if (!result)
        result = boot_build_tables(&description, &pc->memory, &tables, err);
    if (result)
        return result;

    const struct boot_config boot = {
        .kernel = pc->config.kernel,
        .initrd = pc->config.initrd,
        .append = pc->config.append,
        .layout = &pc->layout,
        .rsdp = tables.rsdp,
    };
    return boot_load(&boot, &pc->memory, state, err);
}

int pc_reset(struct pc *pc, struct error *err)
{
    struct x86_vcpu_state state;
    int result = 0;

    /* The TSCs start at 0, and so must VM time, by which the engine counts their deadlines. */
    clock_set(pc->clock, 0);
    for (unsigned i = 0; i < pc->device_count; i++)
        pc->device[i]->ops->reset(pc->device[i]);

    x86_vcpu_state_reset(&state, true, 0);
    if (pc->config.kernel)
        result = direct_boot(pc, &state, err);
    for (unsigned i = 0; i < pc->config.cpus && !result; i++) {
        if (i > 0) {
            x86_vcpu_state_reset(&state, false, i);
            if (pc->config.kernel)
                boot_set_mtrrs(&state, &pc->layout);
        }
        result = pc->config.engine->set_state(pc->vcpu[i], &state, X86_STATE_ALL);
        if (result)
            error_set(err, result, "engine %s refuses the reset state of vCPU %u: %s",
                      pc->config.engine->name, i, strerror(-result));
    }
    return result;
}

int pc_rearrange(struct pc *pc, struct error *err)
{
    pc_serve_slots(pc);
    return pci_bus_remap(pci_host_bus(pc->pci_host), err);
}

static void stop_time(struct pc *pc)
{
    clock_stop(pc->clock);
    pc->config.engine->time_hold(pc->engine_vm, true);
}

static void start_time(struct pc *pc)
{
    pc->config.engine->time_hold(pc->engine_vm, false);
    clock_start(pc->clock);
}

int pc_start(struct pc *pc, struct error *err)
{
    pc->running = true;
    for (; pc->started < pc->device_count; pc->started++) {
        struct device *device = pc->device[pc->started];
        int result = device->ops->start ? device->ops->start(device, err) : 0;
        if (result)
            return result;
    }
    start_time(pc);
    return 0;
}

/* Time stands still first: no timer may wake a device that has gone quiet. */
void pc_pause(struct pc *pc)
{
    if (!pc->running)
        return;
    pc->running = false;
    stop_time(pc);
    for (unsigned i = 0; i < pc->started; i++) {
        if (pc->device[i]->ops->pause)
            pc->device[i]->ops->pause(pc->device[i]);
    }
}

void pc_resume(struct pc *pc)
{
    if (pc->running)
        return;
    pc->running = true;
    for (unsigned i = 0; i < pc->started; i++) {
        if (pc->device[i]->ops->resume)
            pc->device[i]->ops->resume(pc->device[i]);
    }
    start_time(pc);
}

/* ---- save and restore ---- */

struct pc_state {
    uint64_t time; /* of the VM, ns */
    uint32_t device_count;
};

static const struct state_field pc_state_fields[] = {
    STATE_INT(struct pc_state, time),
    STATE_INT(struct pc_state, device_count),
    STATE_END,
};

static const struct state_desc pc_state = {
    .name = PC_BOARD_VERSION,
    .version = 1,
    .fields = pc_state_fields,
};

int pc_save_devices(struct pc *pc, struct state_buffer *buffer)
{
    struct pc_state head = {.time = clock_now(pc->clock), .device_count = pc->device_count};
    int result = state_save(buffer, &pc_state, &head);
    for (unsigned i = 0; i < pc->device_count && !result; i++)
        result = state_save(buffer, pc->device[i]->ops->state, pc->device[i]->state_object);
    return result;
}

int pc_restore_devices(struct pc *pc, struct state_buffer *buffer, struct error *err)
{
    struct pc_state head;
    int result = state_load(buffer, &pc_state, &head, err);
    if (result)
        return result;
    if (head.device_count != pc->device_count)
        return error_set(err, -EBADMSG, "the saved VM has %u devices, this one %u",
                         head.device_count, pc->device_count);
    clock_set(pc->clock, head.time);
    for (unsigned i = 0; i < pc->device_count; i++) {
        struct device *device = pc->device[i];
        result = state_load(buffer, device->ops->state, device->state_object, err);
        if (result)
            return error_prefix(err, result, "device %s", device->name);
    }
    return 0;
}

struct engine_vcpu *pc_vcpu(struct pc *pc, unsigned index)
{
    return pc->vcpu[index];
}

struct engine_vm *pc_engine_vm(struct pc *pc)
{
    return pc->engine_vm;
}

struct memory *pc_memory(struct pc *pc)
{
    return &pc->memory;
}

struct input *pc_input(struct pc *pc)
{
    return pc->input;
}

void pc_power_button(struct pc *pc)
{
    acpi_pm_power_button(pc->acpi_pm);
}
