/*
 * ACPI fixed hardware of an ICH9: the power management block (PM1, the PM timer, GPE0), the SMI
 * command port 0xb2 that switches ACPI on and off, and the reset control register (port 0xcf9).
 * ICH9 data sheet 13.8.3 and 13.7.6; ACPI specification 6.5, 4.8.
 *
 * What the FADT must say: PM1a_EVT_BLK = base, PM1a_CNT_BLK = base + 4, PM_TMR_BLK = base + 8,
 * GPE0_BLK = base + 0x20 (16 bytes), SMI_CMD = 0xb2 with ACPI_ENABLE and ACPI_DISABLE below,
 * RESET_REG = port 0xcf9 with RESET_VALUE 6, TMR_VAL_EXT set; _S5 is ACPI_PM_SLP_TYP_S5.
 */
#ifndef SILL_DEV_LEGACY_ACPI_PM_H
#define SILL_DEV_LEGACY_ACPI_PM_H

#include "base/clock.h"
#include "bus/bus.h"
#include "bus/irq.h"
#include "dev/device.h"
#include "dev/legacy/board_events.h"

#define ACPI_PM_DEFAULT_BASE 0x600
#define ACPI_PM_LENGTH 0x80
#define ACPI_PM_TIMER_HZ 3579545u
#define ACPI_PM_SMI_CMD 0xb2
#define ACPI_PM_CMD_ENABLE 2
#define ACPI_PM_CMD_DISABLE 3
#define ACPI_PM_SLP_TYP_S5 7
#define ACPI_PM_SLP_TYP_VIRTUAL_OFF 0 /* what firmware for virtual machines takes for S5 */
#define ACPI_PM_GPE_COUNT 64

struct acpi_pm;

struct acpi_pm_config {
    struct clock *clock;
    struct irq_line sci;               /* interrupt 9, level */
    const struct board_events *events; /* power_off(), reset() */
    /* Direct boot of a kernel that expects ACPI mode already on (no SMM firmware to switch it). */
    bool acpi_enabled;
};

/* -ENOMEM. */
SILL_CHECKED int acpi_pm_new(struct acpi_pm **out, const struct acpi_pm_config *config);
/* Adds the SMI command ports 0xb2-0xb3. */
SILL_CHECKED int acpi_pm_attach(struct acpi_pm *pm, struct bus *bus, struct error *err);
/* Puts the block at `base`, or takes it off the bus when 0: the LPC bridge's PMBASE register.
 * After acpi_pm_attach(); control thread or the vCPU thread that writes PMBASE. */
SILL_CHECKED int acpi_pm_set_base(struct acpi_pm *pm, uint16_t base, struct error *err);
struct device *acpi_pm_device(struct acpi_pm *pm);

/* The reset control register: one byte at offset 0. It lies inside the PCI configuration ports
 * (0xcf8-0xcff), so the PCI host bridge forwards byte accesses at 0xcf9 to this region's ops; a
 * board without PCI adds it to its bus at ACPI_PM_RESET_PORT. */
#define ACPI_PM_RESET_PORT 0xcf9
struct region *acpi_pm_reset_region(struct acpi_pm *pm);

/* Somebody pressed the power button. Any thread. */
void acpi_pm_power_button(struct acpi_pm *pm);
/* Where the clock's alarms arrive (RTC_STS). */
struct irq_line acpi_pm_rtc_input(struct acpi_pm *pm);
/* General-purpose event `number` happened (0 to ACPI_PM_GPE_COUNT - 1). Any thread. */
void acpi_pm_raise_gpe(struct acpi_pm *pm, unsigned number);

#endif
