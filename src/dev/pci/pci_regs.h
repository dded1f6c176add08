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
#define PCI_EXPRESS_LENGTH 60

#endif
