/* Registers and bits of AHCI 1.3.1, chapter 3, and the structures in memory of chapter 4. */
#ifndef SILL_DEV_STORAGE_AHCI_REGS_H
#define SILL_DEV_STORAGE_AHCI_REGS_H

#define AHCI_BAR 5
#define AHCI_BAR_SIZE 0x1000
#define AHCI_PORT_BASE 0x100
#define AHCI_PORT_SIZE 0x80
#define AHCI_SLOTS 32

/* Generic host control, 3.1 */
#define HBA_CAP 0x00
#define HBA_GHC 0x04
#define HBA_IS 0x08
#define HBA_PI 0x0c
#define HBA_VS 0x10

#define CAP_SLOTS_SHIFT 8
#define CAP_AHCI_ONLY (1u << 18)
#define CAP_SPEED_GEN3 (3u << 20)
#define CAP_COMMAND_LIST_OVERRIDE (1u << 24)
#define CAP_NCQ (1u << 30)
#define CAP_64_BIT (1u << 31)

#define GHC_RESET (1u << 0)
#define GHC_INTERRUPT_ENABLE (1u << 1)
#define GHC_AHCI_ENABLE (1u << 31)

#define VERSION_1_3_1 0x00010301u

/* Ports, 3.3 */
#define PORT_CLB 0x00
#define PORT_CLBU 0x04
#define PORT_FB 0x08
#define PORT_FBU 0x0c
#define PORT_IS 0x10
#define PORT_IE 0x14
#define PORT_CMD 0x18
#define PORT_TFD 0x20
#define PORT_SIG 0x24
#define PORT_SSTS 0x28
#define PORT_SCTL 0x2c
#define PORT_SERR 0x30
#define PORT_SACT 0x34
#define PORT_CI 0x38

#define CLB_MASK 0xfffffc00u
#define FB_MASK 0xffffff00u

#define IS_D2H (1u << 0)
#define IS_PIO_SETUP (1u << 1)
#define IS_SET_DEVICE_BITS (1u << 3)
#define IS_CONNECT_CHANGE (1u << 6)
#define IS_OVERFLOW (1u << 24)
#define IS_HOST_BUS_FATAL (1u << 29)
#define IS_TASK_FILE_ERROR (1u << 30)
#define IS_WRITE_1_CLEAR 0xfd8000afu /* the rest shows bits of other registers */
#define IE_MASK 0xfdc000ffu

#define CMD_START (1u << 0)
#define CMD_SPIN_UP (1u << 1)
#define CMD_POWER_ON (1u << 2)
#define CMD_COMMAND_LIST_OVERRIDE (1u << 3)
#define CMD_FIS_RECEIVE (1u << 4)
#define CMD_SLOT_SHIFT 8
#define CMD_FIS_RUNNING (1u << 14)
#define CMD_LIST_RUNNING (1u << 15)
#define CMD_ATAPI (1u << 24)
#define CMD_WRITE_MASK 0x0f000011u

#define TFD_NO_DEVICE 0x7fu
#define SIG_NONE 0xffffffffu

#define SSTS_GEN3_ACTIVE 0x133u /* device there, 6 Gbit/s, interface active */
#define SCTL_DET 0xfu
#define SCTL_DET_RESET 1u
#define SCTL_DET_OFF 4u
#define SCTL_MASK 0xfffu
#define SERR_EXCHANGED (1u << 26)

/* Command list and tables, 4.2 */
#define HEADER_SIZE 32
#define HEADER_ATAPI (1u << 5)
#define TABLE_CFIS_SIZE 64
#define TABLE_ACMD 0x40
#define TABLE_PRDT 0x80
#define PRD_SIZE 16
#define PRD_COUNT_MASK 0x3fffffu

/* Received FIS area, 4.2.1, and frames: SATA 3.x, 10.5 */
#define RFIS_PIO_SETUP 0x20
#define RFIS_D2H 0x40
#define RFIS_SET_DEVICE_BITS 0x58
#define FIS_H2D 0x27
#define FIS_D2H 0x34
#define FIS_PIO_SETUP 0x5f
#define FIS_SET_DEVICE_BITS 0xa1
#define FIS_SIZE 20
#define FIS_H2D_COMMAND 0x80u
#define FIS_INTERRUPT 0x40u
#define FIS_TO_HOST 0x20u

#endif
