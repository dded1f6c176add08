/*
 * Processors, buses and interrupts for operating systems that do not use ACPI: MultiProcessor
 * Specification 1.4; section numbers below are its own. Only direct boot needs it: firmware makes
 * such tables itself. Control thread.
 *
 *     LAYOUT_MP_BASE   the floating pointer, where a scan of the BIOS area finds it
 *             + 0x10   the configuration table
 */
#include "boot/mp_table.h"

#include <stddef.h>
#include <string.h>

#include "dev/pci/lpc.h"
#include "x86/lapic_regs.h"

#define AREA_SIZE (LAYOUT_MP_END - LAYOUT_MP_BASE)
#define TABLE_OFFSET 0x10u

#define SPECIFICATION 4 /* 1.4 */
#define IOAPIC_ID 0
#define IOAPIC_VERSION 0x20 /* as its register says */
#define ALL_LOCAL_APICS 0xff
#define TIMER_PIN 2 /* of the IOAPIC; ISA interrupt 0 */
#define ISA_INTERRUPTS 16
#define PIC_CASCADE 2
#define PCI_SLOTS 32
#define PCI_PINS 4

/* PCI buses have the numbers that PCI gives them. */
enum mp_bus { BUS_PCI = 0, BUS_ISA = 0xff };

struct floating_pointer { /* 4.1 */
    char signature[4];
    uint32_t table;
    uint8_t paragraphs; /* of 16 bytes that this is long */
    uint8_t specification;
    uint8_t checksum;
    uint8_t default_configuration; /* 0: there is a table */
    uint8_t features[4];
} __attribute__((packed));

struct header { /* 4.2 */
    char signature[4];
    uint16_t length;
    uint8_t specification;
    uint8_t checksum;
    char oem_id[8];
    char product_id[12];
    uint32_t oem_table;
    uint16_t oem_table_size;
    uint16_t entries;
    uint32_t local_apic;
    uint16_t extended_length;
    uint8_t extended_checksum;
    uint8_t reserved;
} __attribute__((packed));

enum entry_type { ENTRY_PROCESSOR, ENTRY_BUS, ENTRY_IOAPIC, ENTRY_IO_INTERRUPT, ENTRY_LOCAL };

struct processor { /* 4.3.1 */
    uint8_t type, apic_id, apic_version, flags;
    uint32_t signature, features;
    uint8_t reserved[8];
} __attribute__((packed));

#define PROCESSOR_ENABLED (1u << 0)
#define PROCESSOR_BOOTSTRAP (1u << 1)

struct bus_entry { /* 4.3.2 */
    uint8_t type, id;
    char name[6];
} __attribute__((packed));

struct ioapic { /* 4.3.3 */
    uint8_t type, id, version, flags;
    uint32_t address;
} __attribute__((packed));

struct interrupt { /* 4.3.4, 4.3.5 */
    uint8_t type, kind;
    uint16_t flags;
    uint8_t bus, source, apic, input;
} __attribute__((packed));

enum interrupt_kind { KIND_INT, KIND_NMI, KIND_SMI, KIND_EXTINT };
#define FLAGS_OF_THE_BUS 0
#define FLAGS_LEVEL_HIGH 0x0d

/* Those whose number is below that. */
#define PROCESSORS_MAX ALL_LOCAL_APICS
#define INTERRUPTS_MAX (ISA_INTERRUPTS + PCI_SLOTS * PCI_PINS + 2)

_Static_assert(TABLE_OFFSET + sizeof(struct header) + PROCESSORS_MAX * sizeof(struct processor) +
                       2 * sizeof(struct bus_entry) + sizeof(struct ioapic) +
                       INTERRUPTS_MAX * sizeof(struct interrupt) <=
                   AREA_SIZE,
               "no room for the table");

struct writer {
    uint8_t area[AREA_SIZE];
    size_t used;
    uint16_t entries;
};

static void put(struct writer *writer, const void *entry, size_t size)
{
    memcpy(writer->area + writer->used, entry, size);
    writer->used += size;
    writer->entries++;
}

static void put_processors(struct writer *writer, const struct board_description *board)
{
    for (unsigned i = 0; i < board->cpus && i < PROCESSORS_MAX; i++) {
        const struct processor processor = {
            .type = ENTRY_PROCESSOR,
            .apic_id = (uint8_t)i,
            .apic_version = (uint8_t)LAPIC_VERSION_VALUE,
            .flags = PROCESSOR_ENABLED | (i ? 0 : PROCESSOR_BOOTSTRAP),
            .signature = board->cpu_signature,
            .features = board->cpu_features,
        };

        put(writer, &processor, sizeof(processor));
    }
}

static void put_interrupt(struct writer *writer, uint16_t flags, enum mp_bus bus, unsigned source,
                          unsigned pin)
{
    const struct interrupt interrupt = {ENTRY_IO_INTERRUPT, KIND_INT,  flags,       bus,
                                        (uint8_t)source,    IOAPIC_ID, (uint8_t)pin};

    put(writer, &interrupt, sizeof(interrupt));
}

/* As the wires lead (machine/gsi.h, dev/pci/lpc.h). */
static void put_interrupts(struct writer *writer)
{
    for (unsigned irq = 0; irq < ISA_INTERRUPTS; irq++) {
        if (irq != PIC_CASCADE)
            put_interrupt(writer, FLAGS_OF_THE_BUS, BUS_ISA, irq, irq ? irq : TIMER_PIN);
    }
    for (unsigned slot = 0; slot < PCI_SLOTS; slot++) {
        for (unsigned pin = 0; pin < PCI_PINS; pin++)
            put_interrupt(writer, FLAGS_LEVEL_HIGH, BUS_PCI, slot << 2 | pin,
                          LPC_PIRQ_FIRST_PIN + lpc_pirq(slot, pin));
    }

    const struct interrupt local[] = {
        {ENTRY_LOCAL, KIND_EXTINT, FLAGS_OF_THE_BUS, BUS_ISA, 0, ALL_LOCAL_APICS, 0},
        {ENTRY_LOCAL, KIND_NMI, FLAGS_OF_THE_BUS, BUS_ISA, 0, ALL_LOCAL_APICS, 1},
    };
    put(writer, &local[0], sizeof(local[0]));
    put(writer, &local[1], sizeof(local[1]));
}

/* Makes all bytes add up to 0. */
static uint8_t checksum(const uint8_t *from, size_t length)
{
    uint8_t sum = 0;

    while (length--)
        sum = (uint8_t)(sum + *from++);
    return (uint8_t)-sum;
}

int mp_table_build(const struct board_description *board, struct memory *mem, struct error *err)
{
    const struct bus_entry pci = {ENTRY_BUS, BUS_PCI, "PCI   "},
                           isa = {ENTRY_BUS, BUS_ISA, "ISA   "};
    const struct ioapic ioapic = {ENTRY_IOAPIC, IOAPIC_ID, IOAPIC_VERSION, 1, LAYOUT_IOAPIC_BASE};
    struct floating_pointer pointer = {
        .signature = "_MP_",
        .table = LAYOUT_MP_BASE + TABLE_OFFSET,
        .paragraphs = sizeof(pointer) / 16,
        .specification = SPECIFICATION,
    };
    struct header header = {
        .signature = "PCMP",
        .specification = SPECIFICATION,
        .oem_id = "SILL    ",
        .product_id = "SILLPC      ",
        .local_apic = LAYOUT_LAPIC_BASE,
    };
    struct writer writer = {.used = TABLE_OFFSET + sizeof(header)};

    put_processors(&writer, board);
    put(&writer, &pci, sizeof(pci));
    put(&writer, &isa, sizeof(isa));
    put(&writer, &ioapic, sizeof(ioapic));
    put_interrupts(&writer);

    header.entries = writer.entries;
    header.length = (uint16_t)(writer.used - TABLE_OFFSET);
    memcpy(writer.area + TABLE_OFFSET, &header, sizeof(header));
    writer.area[TABLE_OFFSET + offsetof(struct header, checksum)] =
        checksum(writer.area + TABLE_OFFSET, header.length);
    pointer.checksum = checksum((const uint8_t *)&pointer, sizeof(pointer));
    memcpy(writer.area, &pointer, sizeof(pointer));
    int ret = memory_write(mem, LAYOUT_MP_BASE, writer.area, writer.used);
    return ret ? error_set(err, ret, "no guest memory for the MP table") : 0;
}
