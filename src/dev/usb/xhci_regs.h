/*
 * Registers (chapter 5) and data structures in memory (chapter 6) of the xHCI specification 1.2.
 */
#ifndef SILL_DEV_USB_XHCI_REGS_H
#define SILL_DEV_USB_XHCI_REGS_H

/* Where things lie in BAR 0. */
#define XHCI_BAR_SIZE 0x4000
#define XHCI_OPERATIONAL 0x40
#define XHCI_PORTS_BASE (XHCI_OPERATIONAL + 0x400)
#define XHCI_PORT_SIZE 0x10
#define XHCI_EXTENDED 0x500
#define XHCI_RUNTIME 0x1000
#define XHCI_INTERRUPTERS_BASE (XHCI_RUNTIME + 0x20)
#define XHCI_INTERRUPTER_SIZE 0x20
#define XHCI_DOORBELLS 0x2000

/* Capability registers, 5.3 */
#define CAPLENGTH_VERSION 0x00
#define HCSPARAMS1 0x04
#define HCSPARAMS2 0x08
#define HCCPARAMS1 0x10
#define DBOFF 0x14
#define RTSOFF 0x18
#define XHCI_VERSION 0x0100u
#define HCSPARAMS1_INTERRUPTERS_SHIFT 8
#define HCSPARAMS1_PORTS_SHIFT 24
#define HCSPARAMS2_IST 0xfu /* a frame and seven */
#define HCSPARAMS2_ERST_SHIFT 4
#define HCCPARAMS1_64_BIT (1u << 0)
#define HCCPARAMS1_EXTENDED_SHIFT 16

/* Supported protocol capability, 7.2 */
#define EXTENDED_PROTOCOL 2u
#define EXTENDED_NEXT_SHIFT 8
#define PROTOCOL_MAJOR_SHIFT 24
#define PROTOCOL_NAME 0x20425355u /* "USB " */
#define PROTOCOL_COUNT_SHIFT 8
#define PROTOCOL_SIZE 0x10

/* Operational registers, 5.4 */
#define USBCMD 0x00
#define USBCMD_RUN (1u << 0)
#define USBCMD_RESET (1u << 1)
#define USBCMD_INTERRUPTS (1u << 2)
#define USBCMD_HOST_ERRORS (1u << 3)
#define USBCMD_RESTORE (1u << 9)
#define USBCMD_KEPT (USBCMD_RUN | USBCMD_INTERRUPTS | USBCMD_HOST_ERRORS)
#define USBSTS 0x04
#define USBSTS_HALTED (1u << 0)
#define USBSTS_HOST_ERROR (1u << 2)
#define USBSTS_EVENT (1u << 3)
#define USBSTS_PORT_CHANGE (1u << 4)
#define USBSTS_RESTORE_ERROR (1u << 10)
#define USBSTS_CLEAR (USBSTS_HOST_ERROR | USBSTS_EVENT | USBSTS_PORT_CHANGE | USBSTS_RESTORE_ERROR)
#define PAGESIZE 0x08
#define PAGESIZE_4K 1u
#define DNCTRL 0x14
#define DNCTRL_MASK 0xffffu
#define CRCR 0x18
#define CRCR_CYCLE (1u << 0)
#define CRCR_STOP (1u << 1)
#define CRCR_ABORT (1u << 2)
#define CRCR_RUNNING (1u << 3)
#define DCBAAP 0x30
#define CONFIG 0x38
#define CONFIG_SLOTS 0xffu

/* Port registers, 5.4.8 */
#define PORTSC 0x0
#define PORTPMSC 0x4
#define PORTSC_CONNECTED (1u << 0)
#define PORTSC_ENABLED (1u << 1)
#define PORTSC_RESET (1u << 4)
#define PORTSC_LINK_SHIFT 5
#define PORTSC_LINK (0xfu << PORTSC_LINK_SHIFT)
#define PORTSC_POWER (1u << 9)
#define PORTSC_SPEED_SHIFT 10
#define PORTSC_SPEED (0xfu << PORTSC_SPEED_SHIFT)
#define PORTSC_INDICATOR (3u << 14)
#define PORTSC_LINK_WRITE (1u << 16)
#define PORTSC_CONNECT_CHANGE (1u << 17)
#define PORTSC_RESET_CHANGE (1u << 21)
#define PORTSC_LINK_CHANGE (1u << 22)
#define PORTSC_CHANGES (0x7fu << 17)
#define PORTSC_WAKE (7u << 25)
enum port_link {
    LINK_U0 = 0,
    LINK_U2 = 2,
    LINK_U3 = 3,
    LINK_RX_DETECT = 5,
    LINK_POLLING = 7,
    LINK_RESUME = 15
};

/* Runtime registers, 5.5 */
#define MFINDEX 0x00
#define MFINDEX_MASK 0x3fffu
#define MFINDEX_NS 125000u
#define IMAN 0x00
#define IMAN_PENDING (1u << 0)
#define IMAN_ENABLE (1u << 1)
#define IMOD 0x04
#define IMOD_INTERVAL 0xffffu
#define IMOD_UNIT_NS 250u
#define IMOD_DEFAULT 4000u
#define ERSTSZ 0x08
#define ERSTSZ_MASK 0xffffu
#define ERSTBA 0x10
#define ERSTBA_MASK (~(uint64_t)0x3f)
#define ERDP 0x18
#define ERDP_BUSY (1u << 3)
#define ERDP_SEGMENT 7u
#define ERDP_POINTER (~(uint64_t)0xf)

/* Doorbells, 5.6 */
#define DOORBELL_TARGET 0xffu

/* Event ring segment table, 6.5 */
#define ERST_ENTRY 16
#define ERST_SEGMENT_MIN 16
#define ERST_SEGMENT_MAX 4096

/* Transfer request blocks, 6.4 */
#define TRB_SIZE 16
#define TRB_CYCLE (1u << 0)
#define TRB_TOGGLE_CYCLE (1u << 1)  /* of a link */
#define TRB_DECONFIGURE (1u << 9)   /* of Configure Endpoint */
#define TRB_BLOCK_ADDRESS (1u << 9) /* of Address Device */
#define TRB_EVENT_DATA (1u << 2)    /* of an event */
#define TRB_SHORT_INTERRUPT (1u << 2)
#define TRB_CHAIN (1u << 4)
#define TRB_INTERRUPT (1u << 5)
#define TRB_IMMEDIATE (1u << 6)
#define TRB_BLOCK_INTERRUPT (1u << 9)
#define TRB_TYPE_SHIFT 10
#define TRB_TYPE_MASK 0x3fu
#define TRB_IN (1u << 16)
#define TRB_ENDPOINT_SHIFT 16
#define TRB_ENDPOINT_MASK 0x1fu
#define TRB_SLOT_SHIFT 24
#define TRB_LENGTH 0x1ffffu /* of the status word */
#define TRB_TARGET_SHIFT 22 /* the interrupter */
#define TRB_CODE_SHIFT 24   /* completion code */
#define TRB_EVENT_LENGTH 0xffffffu

enum trb_type { /* table 6-91 */
                TRB_NORMAL = 1,
                TRB_SETUP = 2,
                TRB_DATA = 3,
                TRB_STATUS = 4,
                TRB_LINK = 6,
                TRB_EVENT_DATA_TYPE = 7,
                TRB_NO_OP = 8,
                TRB_ENABLE_SLOT = 9,
                TRB_DISABLE_SLOT = 10,
                TRB_ADDRESS_DEVICE = 11,
                TRB_CONFIGURE_ENDPOINT = 12,
                TRB_EVALUATE_CONTEXT = 13,
                TRB_RESET_ENDPOINT = 14,
                TRB_STOP_ENDPOINT = 15,
                TRB_SET_DEQUEUE = 16,
                TRB_RESET_DEVICE = 17,
                TRB_NO_OP_COMMAND = 23,
                TRB_TRANSFER_EVENT = 32,
                TRB_COMMAND_EVENT = 33,
                TRB_PORT_EVENT = 34,
                TRB_HOST_EVENT = 37,
};

enum completion { /* table 6-90 */
                  CODE_SUCCESS = 1,
                  CODE_TRANSACTION_ERROR = 4,
                  CODE_TRB_ERROR = 5,
                  CODE_STALL = 6,
                  CODE_NO_SLOTS = 9,
                  CODE_SLOT_NOT_ENABLED = 11,
                  CODE_ENDPOINT_NOT_ENABLED = 12,
                  CODE_SHORT_PACKET = 13,
                  CODE_PARAMETER = 17,
                  CODE_CONTEXT_STATE = 19,
                  CODE_EVENT_RING_FULL = 21,
                  CODE_COMMAND_RING_STOPPED = 24,
                  CODE_STOPPED = 26,
};

/* Contexts of 32 bytes, 6.2: a device context is a slot context and 31 endpoints'; an input context
 * has the input control context before them. */
#define CONTEXT_SIZE 32
#define CONTEXT_WORDS 8
#define CONTEXT_ENDPOINTS 31
#define DEVICE_CONTEXT_SIZE (CONTEXT_SIZE * (1 + CONTEXT_ENDPOINTS))
#define INPUT_DROP 0 /* words of the input control context */
#define INPUT_ADD 1

/* Slot context, 6.2.2: word and bits */
#define SLOT_ROUTE 0xfffffu /* word 0 */
#define SLOT_SPEED_SHIFT 20
#define SLOT_ENTRIES_SHIFT 27
#define SLOT_PORT_SHIFT 16 /* word 1 */
#define SLOT_EXIT_LATENCY 0xffffu
#define SLOT_TARGET_MASK 0xffc00000u /* word 2 */
#define SLOT_STATE_SHIFT 27          /* word 3 */

/* Endpoint context, 6.2.3 */
#define ENDPOINT_STATE 7u /* word 0 */
#define ENDPOINT_STREAMS (0x1fu << 10)
#define ENDPOINT_TYPE_SHIFT 3 /* word 1 */
#define ENDPOINT_PACKET 0xffff0000u
#define ENDPOINT_DEQUEUE 2 /* the word, and the next one */
#define ENDPOINT_CYCLE 1u
#define ENDPOINT_POINTER (~(uint64_t)0xf)

enum slot_state { SLOT_DISABLED, SLOT_DEFAULT, SLOT_ADDRESSED, SLOT_CONFIGURED };
enum endpoint_state {
    ENDPOINT_DISABLED,
    ENDPOINT_RUNNING,
    ENDPOINT_HALTED,
    ENDPOINT_STOPPED,
    ENDPOINT_ERROR,
};
enum endpoint_type { ENDPOINT_INVALID, ENDPOINT_CONTROL = 4 };

#endif
