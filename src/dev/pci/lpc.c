/*
 * The ICH9 LPC bridge: PCI interrupt routing and the place of the ACPI block; see lpc.h.
 *
 * INTx changes come from any thread with the raising function's pci_device.lock held; `lock` is the
 * "PCI interrupt router" of the lock order in bus/irq.h.
 */
#include "dev/pci/lpc.h"

#include <errno.h>
#include <stdlib.h>

/* ICH9 data sheet 13.1 */
#define PMBASE 0x40
#define PMBASE_ADDRESS 0xff80u
#define PMBASE_IS_IO 1u
#define ACPI_CNTL 0x44
#define ACPI_CNTL_ENABLE 0x80u
#define PIRQA_ROUT 0x60
#define PIRQE_ROUT 0x68
#define PIRQ_ROUT_DISABLED 0x80u
#define PIRQ_ROUT_IRQ 0x0fu

/* ISA interrupts that a PIRQ may be routed to (13.1.9): 3-7, 9-12, 14, 15. */
#define ROUTABLE_IRQS 0xdef8u

#define FIRST_UNROTATED_SLOT 25

#define ISA_BRIDGE_CLASS 0x060100

struct lpc {
    struct pci_device pci;
    struct lpc_config config;

    pthread_mutex_t lock;
    uint64_t asserted[LPC_PIRQS][PCI_FUNCTIONS / 64]; /* functions that pull the wire */
    uint8_t route[LPC_PIRQS];                         /* the PIRQn_ROUT registers */
    uint8_t pirq_level;                               /* bit per wire */
    uint16_t isa_level;
    uint16_t pm_base; /* as config.set_pm_base() was told */
};

unsigned lpc_pirq(unsigned slot, unsigned pin)
{
    return slot < FIRST_UNROTATED_SLOT ? 4 + (slot + pin) % 4 : pin;
}

static unsigned route_register(unsigned pirq)
{
    return pirq < 4 ? PIRQA_ROUT + pirq : PIRQE_ROUT + pirq - 4;
}

/* The ISA interrupt of a wire, or 0 when it has none. */
static unsigned routed_irq(const struct lpc *lpc, unsigned pirq)
{
    unsigned irq = lpc->route[pirq] & PIRQ_ROUT_IRQ;

    return !(lpc->route[pirq] & PIRQ_ROUT_DISABLED) && ROUTABLE_IRQS >> irq & 1 ? irq : 0;
}

/* Works out the levels of all outputs and drives those that changed; `lock` is held. */
static void update_levels(struct lpc *lpc)
{
    uint8_t pirq_level = 0;
    uint16_t isa_level = 0;

    for (unsigned pirq = 0; pirq < LPC_PIRQS; pirq++) {
        uint64_t any = 0;
        for (unsigned i = 0; i < ARRAY_SIZE(lpc->asserted[pirq]); i++)
            any |= lpc->asserted[pirq][i];
        if (!any)
            continue;
        pirq_level |= (uint8_t)(1u << pirq);
        if (routed_irq(lpc, pirq))
            isa_level |= (uint16_t)(1u << routed_irq(lpc, pirq));
    }

    uint8_t pirq_changed = pirq_level ^ lpc->pirq_level;
    uint16_t isa_changed = isa_level ^ lpc->isa_level;
    lpc->pirq_level = pirq_level;
    lpc->isa_level = isa_level;
    for (unsigned i = 0; i < LPC_PIRQS; i++)
        if (pirq_changed >> i & 1)
            irq_line_set(&lpc->config.ioapic[i], pirq_level >> i & 1);
    for (unsigned i = 0; i < LPC_ISA_IRQS; i++)
        if (isa_changed >> i & 1)
            irq_line_set(&lpc->config.isa[i], isa_level >> i & 1);
}

static void lpc_intx_set(void *opaque, unsigned devfn, unsigned pin, bool level)
{
    struct lpc *lpc = opaque;
    unsigned pirq = lpc_pirq(PCI_SLOT(devfn), pin);
    uint64_t bit = 1ull << devfn % 64;

    pthread_mutex_lock(&lpc->lock);
    if (level)
        lpc->asserted[pirq][devfn / 64] |= bit;
    else
        lpc->asserted[pirq][devfn / 64] &= ~bit;
    update_levels(lpc);
    pthread_mutex_unlock(&lpc->lock);
}

static uint8_t lpc_intx_line(void *opaque, unsigned devfn, unsigned pin)
{
    struct lpc *lpc = opaque;

    pthread_mutex_lock(&lpc->lock);
    unsigned irq = routed_irq(lpc, lpc_pirq(PCI_SLOT(devfn), pin));
    pthread_mutex_unlock(&lpc->lock);
    return irq ? (uint8_t)irq : 0xff;
}

/* Takes over what the configuration registers say. */
static void apply_registers(struct lpc *lpc)
{
    struct pci_bus *bus = lpc->pci.bus;

    pthread_mutex_lock(&lpc->lock);
    for (unsigned i = 0; i < LPC_PIRQS; i++)
        lpc->route[i] = (uint8_t)pci_config_read(bus, LPC_DEVFN, route_register(i), 1);
    update_levels(lpc);

    bool enabled = pci_config_read(bus, LPC_DEVFN, ACPI_CNTL, 1) & ACPI_CNTL_ENABLE;
    uint16_t base =
        enabled ? (uint16_t)(pci_config_read(bus, LPC_DEVFN, PMBASE, 2) & PMBASE_ADDRESS) : 0;
    if (base != lpc->pm_base) {
        lpc->pm_base = base;
        if (lpc->config.set_pm_base)
            lpc->config.set_pm_base(lpc->config.pm_opaque, base);
    }
    pthread_mutex_unlock(&lpc->lock);
}

static void lpc_config_written(struct pci_device *pci, unsigned offset, unsigned size)
{
    if (offset >= PCI_FIRST_CAPABILITY)
        apply_registers(CONTAINER_OF(pci, struct lpc, pci));
}

static const struct pci_device_ops lpc_pci_ops = {
    .config_written = lpc_config_written,
};

static void lpc_reset(struct device *dev)
{
    struct lpc *lpc = CONTAINER_OF(dev, struct lpc, pci.dev);

    pci_device_reset(&lpc->pci);
    apply_registers(lpc);
}

static void lpc_destroy(struct device *dev)
{
    struct lpc *lpc = CONTAINER_OF(dev, struct lpc, pci.dev);

    lpc->pci.bus->intx = (struct pci_intx_router){0};
    pci_device_done(&lpc->pci);
    pthread_mutex_destroy(&lpc->lock);
    free(lpc);
}

static int lpc_post_load(void *object, struct error *err)
{
    struct lpc *lpc = object;
    int ret = pci_device_post_load(&lpc->pci, err);

    if (ret)
        return ret;
    apply_registers(lpc);
    /* The controllers may have been restored before or after: tell them the levels once more. */
    pthread_mutex_lock(&lpc->lock);
    for (unsigned i = 0; i < LPC_PIRQS; i++)
        irq_line_set(&lpc->config.ioapic[i], lpc->pirq_level >> i & 1);
    for (unsigned i = 0; i < LPC_ISA_IRQS; i++)
        irq_line_set(&lpc->config.isa[i], lpc->isa_level >> i & 1);
    pthread_mutex_unlock(&lpc->lock);
    return 0;
}

/* `asserted` is not saved: each function tells its level when it is restored. */
static const struct state_field lpc_fields[] = {
    STATE_STRUCT(struct lpc, pci, pci_device_fields),
    STATE_END,
};

static const struct state_desc lpc_state = {
    .name = "lpc",
    .version = 1,
    .fields = lpc_fields,
    .post_load = lpc_post_load,
};

static const struct device_ops lpc_ops = {
    .type = "lpc",
    .reset = lpc_reset,
    .destroy = lpc_destroy,
    .state = &lpc_state,
};

/* Registers after reset and the bits that may change; before pci_device_attach(). */
static void init_registers(struct lpc *lpc)
{
    struct pci_device *pci = &lpc->pci;
    uint16_t pm_base = lpc->config.initial_pm_base;

    pci_set32(pci->config, PMBASE, pm_base | PMBASE_IS_IO);
    pci_set16(pci->write_mask, PMBASE, PMBASE_ADDRESS);
    pci->config[ACPI_CNTL] = pm_base ? ACPI_CNTL_ENABLE : 0;
    pci->write_mask[ACPI_CNTL] = ACPI_CNTL_ENABLE;
    for (unsigned i = 0; i < LPC_PIRQS; i++) {
        uint8_t irq = lpc->config.initial_route[i];
        pci->config[route_register(i)] = irq ? irq : PIRQ_ROUT_DISABLED;
        pci->write_mask[route_register(i)] = PIRQ_ROUT_DISABLED | PIRQ_ROUT_IRQ;
    }
}

int lpc_new(struct lpc **out, struct pci_bus *bus, const struct lpc_config *config,
            struct error *err)
{
    static const struct pci_ident ident = {
        .vendor = 0x8086,
        .device = 0x2918,
        .revision = 0x02,
        .class_code = ISA_BRIDGE_CLASS,
    };
    struct lpc *lpc = calloc(1, sizeof(*lpc));

    if (!lpc)
        return error_set(err, -ENOMEM, "no memory for the LPC bridge");
    lpc->pci.dev = (struct device){.ops = &lpc_ops, .name = "lpc", .state_object = lpc};
    lpc->config = *config;
    pthread_mutex_init(&lpc->lock, NULL);
    pci_device_init(&lpc->pci, bus, &lpc_pci_ops, &ident);
    init_registers(lpc);

    int ret = pci_device_attach(&lpc->pci, LPC_DEVFN, err);
    if (ret) {
        pci_device_done(&lpc->pci);
        pthread_mutex_destroy(&lpc->lock);
        free(lpc);
        return ret;
    }
    bus->intx = (struct pci_intx_router){.opaque = lpc, .set = lpc_intx_set, .line = lpc_intx_line};
    apply_registers(lpc);
    *out = lpc;
    return 0;
}

struct device *lpc_device(struct lpc *lpc)
{
    return &lpc->pci.dev;
}
