/*
 * What the ACPI namespace of the board says that is the same in every machine. ACPI specification
 * 6.5, chapters 5, 6 and 19; compiled by iasl when Sill is built. What varies from machine to
 * machine (processors, windows, interrupt routes, which optional devices there are) is in the SSDT
 * that ssdt.c writes at start; the External() names below come from there.
 */
DefinitionBlock ("dsdt.aml", "DSDT", 2, "SILL", "SILLDSDT", 1)
{
    /* 0xF where the device is present, 0 where not: what _STA returns. */
    External (\HPTS, IntObj)
    External (\KBDS, IntObj)
    External (\FDCS, IntObj)
    External (\COMS, IntObj)
    External (\PVPS, IntObj)

    /* Interrupt routes of PCI0 for an operating system that uses the IOAPIC. PCI0._CRS is defined
     * in the SSDT, too. */
    External (\_SB.PCI0.APRT, PkgObj)

    /* Soft off: what goes into SLP_TYP of PM1a_CNT (and PM1b_CNT, which does not exist). */
    Name (\_S5, Package () { 7, 7, 0, 0 })

    /* The interrupt model that the operating system chose: 0 8259s, 1 IOAPIC. */
    Name (\PICM, 0)
    Method (\_PIC, 1)
    {
        PICM = Arg0
    }

    Scope (\_SB)
    {
        Device (PCI0)
        {
            Name (_HID, EisaId ("PNP0A08"))
            Name (_CID, EisaId ("PNP0A03"))
            Name (_UID, 0)
            Name (_SEG, 0)
            Name (_BBN, 0)

            Method (_PRT)
            {
                If (PICM)
                {
                    Return (APRT)
                }

                /* The 8259s: the interrupt line register of each function says it. */
                Return (Package () {})
            }

            /* The operating system may control every PCI Express feature: no firmware does. */
            Method (_OSC, 4)
            {
                CreateDWordField (Arg3, 0, STAT)

                If (Arg0 != ToUUID ("33db4d5b-1ff7-401c-9657-7441c03dd766"))
                {
                    STAT |= 4 /* unknown UUID */
                }
                ElseIf (Arg1 != 1)
                {
                    STAT |= 8 /* unknown revision */
                }

                Return (Arg3)
            }

            Device (LPC)
            {
                Name (_ADR, 0x001F0000)

                Device (RTC)
                {
                    Name (_HID, EisaId ("PNP0B00"))
                    Name (_CRS, ResourceTemplate ()
                    {
                        IO (Decode16, 0x70, 0x70, 1, 2)
                        IRQNoFlags () { 8 }
                    })
                }

                Device (KBD)
                {
                    Name (_HID, EisaId ("PNP0303"))
                    Method (_STA)
                    {
                        Return (KBDS)
                    }
                    Name (_CRS, ResourceTemplate ()
                    {
                        IO (Decode16, 0x60, 0x60, 1, 1)
                        IO (Decode16, 0x64, 0x64, 1, 1)
                        IRQNoFlags () { 1 }
                    })
                }

                Device (MOU)
                {
                    Name (_HID, EisaId ("PNP0F13"))
                    Method (_STA)
                    {
                        Return (KBDS)
                    }
                    Name (_CRS, ResourceTemplate ()
                    {
                        IRQNoFlags () { 12 }
                    })
                }

                Device (FDC0)
                {
                    Name (_HID, EisaId ("PNP0700"))
                    Method (_STA)
                    {
                        Return (FDCS)
                    }
                    Name (_CRS, ResourceTemplate ()
                    {
                        IO (Decode16, 0x3F0, 0x3F0, 1, 6)
                        IO (Decode16, 0x3F7, 0x3F7, 1, 1)
                        IRQNoFlags () { 6 }
                        DMA (Compatibility, NotBusMaster, Transfer8) { 2 }
                    })
                }

                Device (COM1)
                {
                    Name (_HID, EisaId ("PNP0501"))
                    Name (_UID, 1)
                    Method (_STA)
                    {
                        Return (COMS)
                    }
                    Name (_CRS, ResourceTemplate ()
                    {
                        IO (Decode16, 0x3F8, 0x3F8, 1, 8)
                        IRQNoFlags () { 4 }
                    })
                }

                /* The firmware configuration device, for programs in the guest. */
                Device (FWCF)
                {
                    Name (_HID, "QEMU0002")
                    Name (_STA, 0x0B)
                    Name (_CRS, ResourceTemplate ()
                    {
                        IO (Decode16, 0x510, 0x510, 1, 12)
                    })
                }

                /* The port to which a guest reports its panic. */
                Device (PVPN)
                {
                    Name (_HID, "QEMU0001")
                    Method (_STA)
                    {
                        Return (PVPS)
                    }
                    Name (_CRS, ResourceTemplate ()
                    {
                        IO (Decode16, 0x505, 0x505, 1, 1)
                    })
                }
            }
        }

        Device (HPET)
        {
            Name (_HID, EisaId ("PNP0103"))
            Name (_UID, 0)
            Method (_STA)
            {
                Return (HPTS)
            }
            Name (_CRS, ResourceTemplate ()
            {
                Memory32Fixed (ReadOnly, 0xFED00000, 0x400)
            })
        }

        /* Chipset registers that no other device may be given. */
        Device (BRDR)
        {
            Name (_HID, EisaId ("PNP0C02"))
            Name (_UID, 0)
            Name (_CRS, ResourceTemplate ()
            {
                IO (Decode16, 0x92, 0x92, 1, 1)                     /* A20 and fast reset */
                IO (Decode16, 0xB2, 0xB2, 1, 2)                     /* SMI command */
                IO (Decode16, 0x600, 0x600, 1, 0x80)                /* power management block */
                Memory32Fixed (ReadWrite, 0xB0000000, 0x10000000)   /* ECAM */
            })
        }
    }
}
