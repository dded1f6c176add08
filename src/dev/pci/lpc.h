/*
 * The LPC bridge of an ICH9, function 00:1f.0 (8086:2918): routes the PCI interrupt wires and says
 * where the ACPI block is. Intel I/O Controller Hub 9 data sheet, 316972, chapter 13.
 *
 * Interrupt routing. INTx of the functions is folded onto eight wires PIRQA to PIRQH (0 to 7):
 * lpc_pirq(). PIRQn is always IOAPIC input 16 + n, and ISA interrupt r when its PIRQn_ROUT register
 * (0x60-0x63 A to D, 0x68-0x6b E to H) names r with bit 7 clear.
 *
 * Registers: 0x40 PMBASE (bits 15-7) and 0x44 ACPI_CNTL (bit 7 enables the block). The others that
 * software expects to read back what it wrote (GPIO base, decode ranges) are not there: their
 * functions are not on the board.
 */
#ifndef SILL_DEV_PCI_LPC_H
#define SILL_DEV_PCI_LPC_H

#include "dev/pci/pci.h"

#define LPC_DEVFN PCI_DEVFN(0x1f, 0)
#define LPC_PIRQS 8
#define LPC_PIRQ_FIRST_PIN 16 /* IOAPIC input of PIRQA */
#define LPC_ISA_IRQS 16

struct lpc;

struct lpc_config {
    struct irq_line ioapic[LPC_PIRQS]; /* IOAPIC inputs 16 to 23 */
    /* What a routed PIRQ drives; only 3-7, 9-12, 14 and 15 can be chosen. Who shares such a wire
     * with an ISA device combines the levels. */
    struct irq_line isa[LPC_ISA_IRQS];
    /* The ISA interrupt that PIRQA to PIRQH are routed to after reset, 0 for none: direct boot has
     * no firmware to choose. */
    uint8_t initial_route[LPC_PIRQS];
    /* PMBASE after reset, 0: the ACPI block is off until firmware places it. */
    uint16_t initial_pm_base;
    /* Puts the ACPI block at `base`, 0: nowhere (acpi_pm_set_base()). Called when it changes: at
     * attach, reset, restore, and on the vCPU thread of the guest's write. */
    void (*set_pm_base)(void *opaque, uint16_t base);
    void *pm_opaque;
};

/* Adds the bridge to `bus` and becomes its interrupt router. */
SILL_CHECKED int lpc_new(struct lpc **out, struct pci_bus *bus, const struct lpc_config *config,
                         struct error *err);
struct device *lpc_device(struct lpc *lpc);

/* The PIRQ (0 is A) of `pin` (0 is INTA) of device number `slot`: slots 0 to 24 rotate over PIRQE
 * to PIRQH, 25 to 31 use PIRQA to PIRQD unrotated. What the ACPI _PRT must say: IOAPIC input
 * LPC_PIRQ_FIRST_PIN + this. */
unsigned lpc_pirq(unsigned slot, unsigned pin);

#endif
