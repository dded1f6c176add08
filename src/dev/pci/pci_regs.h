/*
 * Register offsets and bits of PCI configuration space. PCI Local Bus specification 3.0, chapter 6
 * (header, MSI, MSI-X); PCI Express base specification 3.0, 7.8 (PCI Express capability).
 */
#ifndef SILL_DEV_PCI_PCI_REGS_H
#define SILL_DEV_PCI_PCI_REGS_H

#define PCI_CONFIG_SIZE 256
#define PCI_EXPRESS_CONFIG_SIZE 4096

/* Type 0 header, 6.1 */
#define PCI_VENDOR_ID 0x00
#define PCI_DEVICE_ID 0x02
#define PCI_COMMAND 0x04
#define PCI_COMMAND_IO (1u << 0)
#define PCI_COMMAND_MEMORY (1u << 1)
#define PCI_COMMAND_MASTER (1u << 2)
#define PCI_COMMAND_PARITY (1u << 6)
#define PCI_COMMAND_SERR (1u << 8)
#define PCI_COMMAND_INTX_DISABLE (1u << 10)
#define PCI_STATUS 0x06
#define PCI_STATUS_INTERRUPT (1u << 3)
#define PCI_STATUS_CAP_LIST (1u << 4)
#define PCI_REVISION_ID 0x08
#define PCI_CLASS 0x09 /* programming interface, subclass, base class: three bytes */
#define PCI_CACHE_LINE_SIZE 0x0c
#define PCI_HEADER_TYPE 0x0e
#define PCI_HEADER_MULTIFUNCTION 0x80u
#define PCI_BAR0 0x10
#define PCI_BAR_COUNT 6
#define PCI_BAR_IS_IO 0x1u
#define PCI_BAR_IS_64 0x4u
#define PCI_BAR_IS_PREFETCHABLE 0x8u
#define PCI_BAR_IO_FLAGS 0x3u
#define PCI_BAR_MEMORY_FLAGS 0xfu
#define PCI_ROM_BAR 0x30
#define PCI_ROM_BAR_ENABLE 0x1u
#define PCI_ROM_BAR_ADDRESS 0xfffff800u
#define PCI_SUBSYSTEM_VENDOR_ID 0x2c
#define PCI_SUBSYSTEM_ID 0x2e
#define PCI_CAPABILITY_POINTER 0x34
#define PCI_INTERRUPT_LINE 0x3c
#define PCI_INTERRUPT_PIN 0x3d
#define PCI_FIRST_CAPABILITY 0x40

/* Type 1 header: PCI-to-PCI Bridge Architecture specification 1.2, 3.2.5 */
#define PCI_HEADER_BRIDGE 0x01u
#define PCI_PRIMARY_BUS 0x18
#define PCI_SECONDARY_BUS 0x19
#define PCI_SUBORDINATE_BUS 0x1a
#define PCI_IO_BASE 0x1c
#define PCI_IO_LIMIT 0x1d
#define PCI_IO_WINDOW_BITS 0xf0u
#define PCI_MEMORY_BASE 0x20
#define PCI_MEMORY_LIMIT 0x22
#define PCI_PREFETCHABLE_BASE 0x24
#define PCI_PREFETCHABLE_LIMIT 0x26
#define PCI_PREFETCHABLE_IS_64 0x1u
#define PCI_MEMORY_WINDOW_BITS 0xfff0u
#define PCI_PREFETCHABLE_BASE_HIGH 0x28
#define PCI_PREFETCHABLE_LIMIT_HIGH 0x2c
#define PCI_BRIDGE_CONTROL 0x3e
#define PCI_BRIDGE_CONTROL_PARITY (1u << 0)
#define PCI_BRIDGE_CONTROL_SERR (1u << 1)
#define PCI_BRIDGE_CONTROL_RESET (1u << 6)

/* Capability identifiers, appendix H */
#define PCI_CAP_MSI 0x05
#define PCI_CAP_VENDOR 0x09
#define PCI_CAP_EXPRESS 0x10
#define PCI_CAP_MSIX 0x11

/* MSI, 6.8.1, in the form with 64-bit address and per-vector masking */
#define PCI_MSI_CONTROL 2
#define PCI_MSI_CONTROL_ENABLE (1u << 0)
#define PCI_MSI_CONTROL_CAPABLE_SHIFT 1 /* log2 of the vectors the device could use */
#define PCI_MSI_CONTROL_ENABLED_SHIFT 4 /* log2 of the vectors the system allows */
#define PCI_MSI_CONTROL_LOG2_MASK 7u
#define PCI_MSI_CONTROL_64 (1u << 7)
#define PCI_MSI_CONTROL_MASKABLE (1u << 8)
#define PCI_MSI_ADDRESS 4
#define PCI_MSI_ADDRESS_HIGH 8
#define PCI_MSI_DATA 12
#define PCI_MSI_MASK 16
#define PCI_MSI_PENDING 20
#define PCI_MSI_LENGTH 24

/* MSI-X, 6.8.2 */
#define PCI_MSIX_CONTROL 2
#define PCI_MSIX_CONTROL_FUNCTION_MASK (1u << 14)
#define PCI_MSIX_CONTROL_ENABLE (1u << 15)
#define PCI_MSIX_TABLE 4
#define PCI_MSIX_PBA 8
#define PCI_MSIX_LENGTH 12
#define PCI_MSIX_ENTRY_SIZE 16
#define PCI_MSIX_ENTRY_MASKED (1u << 0) /* in the entry's vector control */

/* PCI Express capability, version 2 */
#define PCI_EXPRESS_FLAGS 2
#define PCI_EXPRESS_FLAGS_VERSION 2u
#define PCI_EXPRESS_TYPE_SHIFT 4
#define PCI_EXPRESS_DEVICE_CAP 4
#define PCI_EXPRESS_DEVICE_CAP_ROLE_BASED_ERRORS (1u << 15)
#define PCI_EXPRESS_DEVICE_CONTROL 8
#define PCI_EXPRESS_DEVICE_STATUS 10
#define PCI_EXPRESS_LINK_CAP 12
#define PCI_EXPRESS_LINK_CAP_ACTIVE_REPORTING (1u << 20)
#define PCI_EXPRESS_LINK_CAP_PORT_SHIFT 24
#define PCI_EXPRESS_LINK_CONTROL 16
#define PCI_EXPRESS_LINK_CONTROL_BITS 0xdbu /* ASPM, RCB, disable, common clock, extended sync */
#define PCI_EXPRESS_LINK_CONTROL_DISABLE (1u << 4)
#define PCI_EXPRESS_LINK_STATUS 18
#define PCI_EXPRESS_LINK_STATUS_ACTIVE (1u << 13)
#define PCI_EXPRESS_LINK_CAP_2 44
#define PCI_EXPRESS_LENGTH 60

/* Link speed and width, in both the capabilities and the status register (7.8.6, 7.8.8) */
#define PCI_EXPRESS_LINK_2_5_GT 1u
#define PCI_EXPRESS_LINK_X1 (1u << 4)
#define PCI_EXPRESS_LINK_CAP_2_2_5_GT (1u << 1)

/* Its registers for slots, 7.8.9 to 7.8.11 */
#define PCI_EXPRESS_FLAGS_SLOT (1u << 8)
#define PCI_EXPRESS_SLOT_CAP 20
#define PCI_EXPRESS_SLOT_CAP_BUTTON (1u << 0)
#define PCI_EXPRESS_SLOT_CAP_POWER (1u << 1)
#define PCI_EXPRESS_SLOT_CAP_ATTENTION_LED (1u << 3)
#define PCI_EXPRESS_SLOT_CAP_POWER_LED (1u << 4)
#define PCI_EXPRESS_SLOT_CAP_SURPRISE (1u << 5)
#define PCI_EXPRESS_SLOT_CAP_HOT_PLUG (1u << 6)
#define PCI_EXPRESS_SLOT_CAP_NUMBER_SHIFT 19
#define PCI_EXPRESS_SLOT_CONTROL 24
#define PCI_EXPRESS_SLOT_CONTROL_BITS 0x17ffu
#define PCI_EXPRESS_SLOT_CONTROL_COMMAND (1u << 4) /* completed: may interrupt */
#define PCI_EXPRESS_SLOT_CONTROL_INTERRUPT (1u << 5)
#define PCI_EXPRESS_SLOT_CONTROL_ATTENTION_OFF (3u << 6)
#define PCI_EXPRESS_SLOT_CONTROL_POWER_LED (3u << 8)
#define PCI_EXPRESS_SLOT_CONTROL_POWER_LED_ON (1u << 8)
#define PCI_EXPRESS_SLOT_CONTROL_POWER_LED_BLINKS (2u << 8)
#define PCI_EXPRESS_SLOT_CONTROL_POWER_LED_OFF (3u << 8)
#define PCI_EXPRESS_SLOT_CONTROL_POWER_OFF (1u << 10)
#define PCI_EXPRESS_SLOT_CONTROL_LINK (1u << 12) /* its change may interrupt */
#define PCI_EXPRESS_SLOT_STATUS 26
#define PCI_EXPRESS_SLOT_STATUS_BUTTON (1u << 0)
#define PCI_EXPRESS_SLOT_STATUS_PRESENCE_CHANGED (1u << 3)
#define PCI_EXPRESS_SLOT_STATUS_COMMAND (1u << 4)
#define PCI_EXPRESS_SLOT_STATUS_PRESENT (1u << 6)
#define PCI_EXPRESS_SLOT_STATUS_LINK_CHANGED (1u << 8)
/* Events, and the enable bits of the same places in slot control. */
#define PCI_EXPRESS_SLOT_EVENTS 0x1fu

/* Its registers for root ports, 7.8.12 */
#define PCI_EXPRESS_ROOT_CONTROL 28
#define PCI_EXPRESS_ROOT_CONTROL_BITS 0x0fu

/* Device and port types, 7.8.2 */
#define PCI_EXPRESS_TYPE_ENDPOINT 0u
#define PCI_EXPRESS_TYPE_ROOT_PORT 4u
#define PCI_EXPRESS_TYPE_ROOT_ENDPOINT 9u

#endif
