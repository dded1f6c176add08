/* Registers of the 82574L and their bits, chapter 10 of its datasheet. */
#ifndef SILL_DEV_NET_E1000E_REGS_H
#define SILL_DEV_NET_E1000E_REGS_H

#define E1000E_BAR_SIZE 0x20000
#define E1000E_IO_SIZE 32
#define E1000E_REGISTERS_END 0xc000 /* nothing lies behind it */
#define E1000E_QUEUES 2
#define E1000E_QUEUE_STRIDE 0x100
#define E1000E_VECTORS 5

/* General, 10.2.2 */
#define CTRL 0x0000
#define CTRL_FD (1u << 0)
#define CTRL_GIO_MASTER_DISABLE (1u << 2)
#define CTRL_SLU (1u << 6)
#define CTRL_SPEED_1000 (2u << 8)
#define CTRL_ADVD3WUC (1u << 20)
#define CTRL_RST (1u << 26)
#define CTRL_VME (1u << 30)
#define CTRL_PHY_RST (1u << 31)
#define STATUS 0x0008
#define STATUS_FD (1u << 0)
#define STATUS_LU (1u << 1)
#define STATUS_SPEED_1000 (2u << 6)
#define STATUS_GIO_MASTER (1u << 19)
#define EECD 0x0010
#define EECD_GRANT (1u << 7)
#define EECD_PRESENT (1u << 8)
#define EECD_AUTO_READ_DONE (1u << 9)
#define EERD 0x0014
#define EERD_START (1u << 0)
#define EERD_DONE (1u << 1)
#define EERD_ADDRESS_SHIFT 2
#define EERD_ADDRESS_MASK 0x3fff
#define EERD_DATA_SHIFT 16
#define CTRL_EXT 0x0018
#define CTRL_EXT_EE_RST (1u << 13)
#define CTRL_EXT_EIAME (1u << 24)
#define CTRL_EXT_IAME (1u << 27)
#define FLA 0x001c
#define MDIC 0x0020
#define MDIC_DATA_MASK 0xffffu
#define MDIC_REGISTER_SHIFT 16
#define MDIC_PHY_SHIFT 21
#define MDIC_FIELD_MASK 0x1fu
#define MDIC_OP_MASK (3u << 26)
#define MDIC_OP_WRITE (1u << 26)
#define MDIC_OP_READ (2u << 26)
#define MDIC_READY (1u << 28)
#define MDIC_INTERRUPT (1u << 29)
#define MDIC_ERROR (1u << 30)
#define FCAL 0x0028
#define FCAH 0x002c
#define FCT 0x0030
#define KUMCTRLSTA 0x0034
#define VET 0x0038

/* Interrupts, 10.2.4 */
#define ICR 0x00c0
#define ITR 0x00c4
#define ICS 0x00c8
#define IMS 0x00d0
#define IMC 0x00d8
#define EIAC 0x00dc
#define IAM 0x00e0
#define IVAR 0x00e4
#define IVAR_FIELD_BITS 4
#define IVAR_VALID 8u
#define IVAR_VECTOR_MASK 7u
#define EITR 0x00e8 /* one for each vector */
#define ITR_INTERVAL_MASK 0xffffu
#define ITR_UNIT_NS 256
#define CAUSE_TXDW (1u << 0)
#define CAUSE_TXQE (1u << 1)
#define CAUSE_LSC (1u << 2)
#define CAUSE_RXSEQ (1u << 3)
#define CAUSE_RXDMT0 (1u << 4)
#define CAUSE_RXO (1u << 6)
#define CAUSE_RXT0 (1u << 7)
#define CAUSE_MDAC (1u << 9)
#define CAUSE_RXQ0 (1u << 20)
#define CAUSE_TXQ0 (1u << 22) /* queue 1: the next bit */
#define CAUSE_OTHER (1u << 24)
#define CAUSE_ASSERTED (1u << 31)
#define CAUSES 0x01f782dfu /* all that exist, without ASSERTED */
#define CAUSES_OTHER (CAUSE_LSC | CAUSE_RXSEQ | CAUSE_RXO | CAUSE_MDAC)

/* Receive, 10.2.5 */
#define RCTL 0x0100
#define RCTL_EN (1u << 1)
#define RCTL_UPE (1u << 3)
#define RCTL_MPE (1u << 4)
#define RCTL_LPE (1u << 5)
#define RCTL_RDMTS_SHIFT 8
#define RCTL_DTYP_SPLIT (1u << 10)
#define RCTL_MO_SHIFT 12
#define RCTL_BAM (1u << 15)
#define RCTL_BSIZE_SHIFT 16
#define RCTL_VFE (1u << 18)
#define RCTL_BSEX (1u << 25)
#define RCTL_SECRC (1u << 26)
#define RCTL_FLXBUF_SHIFT 27
#define FCTTV 0x0170
#define FCRTL 0x2160
#define FCRTH 0x2168
#define PSRCTL 0x2170
#define RDBAL 0x2800 /* queue 1 from 0x2900 on */
#define RDBAH 0x2804
#define RDLEN 0x2808
#define RDH 0x2810
#define RDT 0x2818
#define RDTR 0x2820
#define RXDCTL 0x2828
#define RADV 0x282c
#define RSRPD 0x2c00
#define RAID 0x2c08
#define CPUVEC 0x2c10
#define RXCSUM 0x5000
#define RXCSUM_PCSS_MASK 0xffu
#define RXCSUM_IPOFLD (1u << 8)
#define RXCSUM_TUOFLD (1u << 9)
#define RXCSUM_PCSD (1u << 13)
#define RFCTL 0x5008
#define RFCTL_EXSTEN (1u << 15)
#define MTA 0x5200
#define RAL 0x5400
#define RAH 0x5404
#define RAH_VALID (1u << 31)
#define RA_COUNT 16
#define VFTA 0x5600
#define MRQC 0x5818
#define RETA 0x5c00
#define RSSRK 0x5c80

/* Transmit, 10.2.6 */
#define TCTL 0x0400
#define TCTL_EN (1u << 1)
#define TIPG 0x0410
#define AIT 0x0458
#define TDBAL 0x3800 /* queue 1 from 0x3900 on */
#define TDBAH 0x3804
#define TDLEN 0x3808
#define TDH 0x3810
#define TDT 0x3818
#define TIDV 0x3820
#define TXDCTL 0x3828
#define TADV 0x382c
#define TARC 0x3840

/* Statistics, 10.2.7: cleared by reading. Only what can happen here is counted. */
#define STATISTICS 0x4000
#define STATISTICS_END 0x4128
#define MPC 0x4010
#define GPRC 0x4074
#define BPRC 0x4078
#define MPRC 0x407c
#define GPTC 0x4080
#define GORCL 0x4088
#define GORCH 0x408c
#define GOTCL 0x4090
#define GOTCH 0x4094
#define TORL 0x40c0
#define TORH 0x40c4
#define TOTL 0x40c8
#define TOTH 0x40cc
#define TPR 0x40d0
#define TPT 0x40d4
#define TSCTC 0x40f8

/* The rest: management, wake-up, PCIe, time stamps */
#define LEDCTL 0x0e00
#define EXTCNF_CTRL 0x0f00
#define EXTCNF_SIZE 0x0f08
#define PHY_CTRL 0x0f10
#define PBA 0x1000
#define PBA_RESET 0x00140014 /* 20 KiB each */
#define EEMNGCTL 0x1010
#define EEMNGCTL_CFG_DONE (1u << 18)
#define PBS 0x1008
#define PBA_ECC 0x1100
#define WUC 0x5800
#define WUFC 0x5808
#define WUS 0x5810
#define MANC 0x5820
#define IPAV 0x5838
#define MANC2H 0x5860
#define GCR 0x5b00
#define FUNCTAG 0x5b08
#define GSCL 0x5b10
#define FACTPS 0x5b30
#define SWSM 0x5b50
#define FWSM 0x5b54
#define SWSM2 0x5b58
#define GCR2 0x5b64
#define SYSTIML 0xb600
#define SYSTIMH 0xb604
#define TIMINCA 0xb608
#define TIMADJL 0xb60c
#define TIMADJH 0xb610
#define TSYNCTXCTL 0xb614
#define TXSTMPL 0xb618
#define TXSTMPH 0xb61c
#define TSYNCRXCTL 0xb620
#define RXSTMPL 0xb624
#define RXSTMPH 0xb628
#define RXCFGL 0xb634
#define RXUDP 0xb638

#endif
