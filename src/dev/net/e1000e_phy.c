/*
 * The PHY behind MDIC and the NVM behind EERD of the 82574L; see e1000e_internal.h.
 * IEEE 802.3, clause 22.2.4 (registers 0 to 15); datasheet 10.2.2.7 (MDIC), 10.2.2.4 (EERD),
 * chapter 6 (NVM map).
 */
#include "dev/net/e1000e_internal.h"

#include <string.h>

/* The PHY answers at this address. */
#define PHY_ADDRESS 1

enum phy_register {
    PHY_CONTROL = 0,
    PHY_STATUS = 1,
    PHY_ID1 = 2,
    PHY_ID2 = 3,
    PHY_ADVERTISE = 4,
    PHY_PARTNER = 5,
    PHY_EXPANSION = 6,
    PHY_GIGABIT_CONTROL = 9,
    PHY_GIGABIT_STATUS = 10,
    PHY_EXTENDED_STATUS = 15,
    PHY_COPPER_CONTROL = 16,
    PHY_COPPER_STATUS = 17,
    PHY_PAGE = 22,
};

#define PHY_CONTROL_RESET 0x8000
#define PHY_CONTROL_RESTART 0x0200 /* clears itself, as RESET does */

/* Link up at 1000 Mb/s full duplex, negotiated with a partner that can do everything. */
static const uint16_t phy_reset_values[E1000E_PHY_REGISTERS] = {
    [PHY_CONTROL] = 0x1140,
    [PHY_STATUS] = 0x796d,
    [PHY_ID1] = 0x0141,
    [PHY_ID2] = 0x0cb1,
    [PHY_ADVERTISE] = 0x0de1,
    [PHY_PARTNER] = 0xc1e1,
    [PHY_EXPANSION] = 0x000f,
    [PHY_GIGABIT_CONTROL] = 0x0e00,
    [PHY_GIGABIT_STATUS] = 0x3c00,
    [PHY_EXTENDED_STATUS] = 0x3000,
    [PHY_COPPER_CONTROL] = 0x0078,
    [PHY_COPPER_STATUS] = 0xac0c,
};

static bool phy_writable(unsigned reg)
{
    return reg == PHY_CONTROL || reg == PHY_ADVERTISE || reg == PHY_GIGABIT_CONTROL ||
           (reg >= PHY_COPPER_CONTROL && reg != PHY_COPPER_STATUS);
}

void e1000e_phy_reset(struct e1000e *dev)
{
    memcpy(dev->phy, phy_reset_values, sizeof(dev->phy));
}

static void phy_write(struct e1000e *dev, unsigned reg, uint16_t value)
{
    if (!phy_writable(reg))
        return;
    /* Of the vendor's pages only the first holds something that is kept. */
    if (reg >= PHY_COPPER_CONTROL && reg != PHY_PAGE && dev->phy[PHY_PAGE])
        return;
    if (reg == PHY_CONTROL && value & PHY_CONTROL_RESET)
        e1000e_phy_reset(dev);
    if (reg == PHY_CONTROL)
        value &= (uint16_t) ~(PHY_CONTROL_RESET | PHY_CONTROL_RESTART);
    dev->phy[reg] = value;
}

void e1000e_mdic_write(struct e1000e *dev, uint32_t value)
{
    unsigned reg = value >> MDIC_REGISTER_SHIFT & MDIC_FIELD_MASK;
    unsigned address = value >> MDIC_PHY_SHIFT & MDIC_FIELD_MASK;
    uint32_t answer = value & ~(MDIC_READY | MDIC_ERROR);

    if (address != PHY_ADDRESS)
        answer |= MDIC_ERROR;
    else if ((value & MDIC_OP_MASK) == MDIC_OP_WRITE)
        phy_write(dev, reg, (uint16_t)value);
    else if ((value & MDIC_OP_MASK) == MDIC_OP_READ)
        answer = (answer & ~MDIC_DATA_MASK) | dev->phy[reg];
    e1000e_set(dev, MDIC, answer | MDIC_READY);
    if (value & MDIC_INTERRUPT)
        e1000e_raise(dev, CAUSE_MDAC);
}

/* Words of the NVM, 6.1 */
enum nvm_word {
    NVM_MAC = 0,
    NVM_SUBSYSTEM = 0x0b,
    NVM_SUBSYSTEM_VENDOR = 0x0c,
    NVM_DEVICE = 0x0d,
    NVM_CHECKSUM = 0x3f,
};

#define NVM_SUM 0xbaba /* of all words, 6.4 */

void e1000e_nvm_init(struct e1000e *dev, const uint8_t *mac)
{
    uint16_t sum = 0;

    for (unsigned i = 0; i < NET_MAC_LENGTH / 2; i++)
        dev->nvm[NVM_MAC + i] = (uint16_t)(mac[2 * i] | mac[2 * i + 1] << 8);
    dev->nvm[NVM_SUBSYSTEM] = pci_get16(dev->pci.config, PCI_SUBSYSTEM_ID);
    dev->nvm[NVM_SUBSYSTEM_VENDOR] = pci_get16(dev->pci.config, PCI_SUBSYSTEM_VENDOR_ID);
    dev->nvm[NVM_DEVICE] = pci_get16(dev->pci.config, PCI_DEVICE_ID);
    for (unsigned i = 0; i < NVM_CHECKSUM; i++)
        sum = (uint16_t)(sum + dev->nvm[i]);
    dev->nvm[NVM_CHECKSUM] = (uint16_t)(NVM_SUM - sum);
}

uint32_t e1000e_eerd(const struct e1000e *dev, uint32_t value)
{
    unsigned word = value >> EERD_ADDRESS_SHIFT & EERD_ADDRESS_MASK;
    uint32_t address = value & EERD_ADDRESS_MASK << EERD_ADDRESS_SHIFT;

    if (!(value & EERD_START))
        return address;
    uint32_t data = word < E1000E_NVM_WORDS ? dev->nvm[word] : 0xffff;
    return address | EERD_DONE | data << EERD_DATA_SHIFT;
}
