/*
 * The board as the engine sees it: struct engine_callbacks, called on vCPU threads without a lock,
 * and the two wires that lead back from the board into the engine's local APICs.
 */
#include "machine/pc_internal.h"

#include "base/log.h"
#include "x86/msr.h"

static uint32_t pc_port_read(void *opaque, uint16_t port, unsigned size)
{
    struct pc *pc = opaque;
    uint64_t value;
    bus_read(&pc->bus, BUS_PORT, port, size, &value);
    return (uint32_t)value;
}

static void pc_port_write(void *opaque, uint16_t port, unsigned size, uint32_t value)
{
    struct pc *pc = opaque;
    bus_write(&pc->bus, BUS_PORT, port, size, value);
}

static uint64_t pc_mmio_read(void *opaque, gpa_t gpa, unsigned size)
{
    struct pc *pc = opaque;
    uint64_t value;
    bus_read(&pc->bus, BUS_MMIO, gpa, size, &value);
    return value;
}

static void pc_mmio_write(void *opaque, gpa_t gpa, unsigned size, uint64_t value)
{
    struct pc *pc = opaque;
    bus_write(&pc->bus, BUS_MMIO, gpa, size, value);
}

/* The TSC counts at one rate whatever the clock does: AMD PPR, MSRC001_0015. */
#define HWCR_TSC_FREQUENCY_SELECT (1u << 24)

/*
 * Registers of real processors' platforms that kernels read or write without asking CPUID first,
 * because every machine of that make has them. They read as below, writes vanish. All others give
 * #GP, which kernels probe for.
 */
static const struct board_msr {
    uint32_t first, last;
    uint64_t value;
} board_msrs[] = {
    {0x2a, 0x2a, 0}, /* EBL_CR_POWERON */
    {0x34, 0x34, 0}, /* SMI_COUNT */
    {MSR_UCODE_REVISION, MSR_UCODE_REVISION, 0},
    {0xc1, 0xc8, 0},                     /* PMC0-PMC7 */
    {0xcd, 0xcd, 0},                     /* FSB_FREQ */
    {0xce, 0xce, 0},                     /* PLATFORM_INFO */
    {0x140, 0x140, 0},                   /* MISC_FEATURE_ENABLES */
    {0x186, 0x18d, 0},                   /* PERFEVTSEL0-PERFEVTSEL7 */
    {0x1ad, 0x1ad, 0},                   /* TURBO_RATIO_LIMIT */
    {0x606, 0x606, 0},                   /* RAPL_POWER_UNIT */
    {0x611, 0x611, 0},                   /* PKG_ENERGY_STATUS */
    {0xc0010000, 0xc0010007, 0},         /* AMD performance counters */
    {MSR_AMD_SYSCFG, MSR_AMD_SYSCFG, 0}, /* system configuration: no memory encryption */
    {MSR_AMD_HWCR, MSR_AMD_HWCR, HWCR_TSC_FREQUENCY_SELECT},
    {MSR_AMD_NB_CFG, MSR_AMD_NB_CFG, 0}, /* northbridge configuration */
    {0xc0010055, 0xc0010055, 0},         /* INT_PENDING: C1E */
    {0xc0010112, 0xc0010113, 0},         /* SMM base and mask of TSEG */
    {0xc0010117, 0xc0010117, 0},         /* VM_HSAVE_PA */
    {MSR_AMD_LS_CFG, MSR_AMD_LS_CFG, 0}, /* load-store configuration */
    {0xc0011022, 0xc0011023, 0},         /* data cache and bus unit configuration */
    {MSR_AMD_DE_CFG, MSR_AMD_DE_CFG, 0}, /* decode configuration */
};

static const struct board_msr *find_msr(uint32_t index)
{
    for (size_t i = 0; i < ARRAY_SIZE(board_msrs); i++) {
        if (index >= board_msrs[i].first && index <= board_msrs[i].last)
            return &board_msrs[i];
    }
    return NULL;
}

static bool pc_msr_read(void *opaque, unsigned vcpu, uint32_t index, uint64_t *value)
{
    const struct board_msr *msr = find_msr(index);
    if (!msr) {
        log_guest("msr", "vCPU %u reads the unknown MSR %#x", vcpu, index);
        return false;
    }
    *value = msr->value;
    return true;
}

static bool pc_msr_write(void *opaque, unsigned vcpu, uint32_t index, uint64_t value)
{
    if (find_msr(index))
        return true;
    log_guest("msr", "vCPU %u writes %#llx to the unknown MSR %#x", vcpu, (unsigned long long)value,
              index);
    return false;
}

static uint8_t pc_pic_acknowledge(void *opaque)
{
    struct pc *pc = opaque;
    return i8259_acknowledge(pc->pic);
}

static void pc_ioapic_eoi(void *opaque, uint8_t vector)
{
    struct pc *pc = opaque;
    ioapic_eoi(pc->ioapic, vector);
}

struct engine_callbacks pc_engine_callbacks(struct pc *pc)
{
    return (struct engine_callbacks){
        .opaque = pc,
        .port_read = pc_port_read,
        .port_write = pc_port_write,
        .mmio_read = pc_mmio_read,
        .mmio_write = pc_mmio_write,
        .msr_read = pc_msr_read,
        .msr_write = pc_msr_write,
        .pic_acknowledge = pc_pic_acknowledge,
        .ioapic_eoi = pc_ioapic_eoi,
    };
}

static void pc_extint_set(void *opaque, unsigned input, bool level)
{
    struct pc *pc = opaque;
    pc->config.engine->extint_set(pc->engine_vm, level);
}

struct irq_line pc_extint_line(struct pc *pc)
{
    return (struct irq_line){.set = pc_extint_set, .opaque = pc};
}

static void pc_msi_send(void *opaque, const struct msi_message *message)
{
    struct pc *pc = opaque;
    pc->config.engine->msi_send(pc->engine_vm, message);
}

struct msi_sink pc_msi_sink(struct pc *pc)
{
    return (struct msi_sink){.send = pc_msi_send, .opaque = pc};
}
