/*
 * The ACPI tables: ACPI specification 6.5, 5.2; HPET: IA-PC HPET specification 1.0a, 3.2.4; MCFG:
 * PCI Firmware specification 3.2, 4.1.2. Control thread.
 *
 *     RSDP
 *     FACS                            one piece of memory, `data` of the image; pointers to tables
 *     FADT, MADT, MCFG, HPET, SSDT,   are offsets into it until it has found its place
 *     DSDT
 *     RSDT and XSDT, which list them
 *
 * For direct boot the place is LAYOUT_ACPI_BASE, where a scan of the BIOS area finds the RSDP;
 * firmware chooses its own (table_loader.c).
 */
#include "boot/acpi/acpi.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "boot/acpi/dsdt.hex"
#include "dev/legacy/acpi_pm.h"
#include "dev/legacy/hpet.h"

#define MAX_TABLES 8u /* that RSDT and XSDT list */

/* An image while it is being built. */
struct builder {
    struct acpi_image *image;
    bool overflow;
    uint32_t listed[MAX_TABLES];
    unsigned listed_count;
};

/* Room for a table of `size` bytes; NULL when the image is full. */
static void *reserve(struct builder *builder, size_t size, size_t align, uint32_t *offset)
{
    struct acpi_image *image = builder->image;
    size_t at = ALIGN_UP(image->used, align);

    if (builder->overflow || at > sizeof(image->data) || size > sizeof(image->data) - at) {
        builder->overflow = true;
        return NULL;
    }
    image->used = (uint32_t)(at + size);
    *offset = (uint32_t)at;
    return image->data + at;
}

/* Notes that the `width` bytes at `at` point to a table; no image has too many. */
static void note_pointer(struct acpi_image *image, bool in_rsdp, size_t at, size_t width)
{
    image->pointer[image->pointer_count++] =
        (struct acpi_pointer){.in_rsdp = in_rsdp, .at = (uint32_t)at, .width = (uint8_t)width};
}

/* Notes that the byte `at` makes [start, start + length) add up to 0; it is 0 so far. */
static void note_checksum(struct acpi_image *image, bool in_rsdp, size_t at, size_t start,
                          size_t length)
{
    image->sum[image->sum_count++] = (struct acpi_sum){.in_rsdp = in_rsdp,
                                                       .at = (uint32_t)at,
                                                       .start = (uint32_t)start,
                                                       .length = (uint32_t)length};
}

static void note_table(struct builder *builder, size_t offset, size_t length)
{
    note_checksum(builder->image, false, offset + offsetof(struct acpi_header, checksum), offset,
                  length);
}

static uint8_t checksum(const void *table, size_t size)
{
    const uint8_t *bytes = table;
    uint8_t sum = 0;

    for (size_t i = 0; i < size; i++)
        sum += bytes[i];
    return (uint8_t)-sum;
}

static struct acpi_header header(const char *signature, uint8_t revision, size_t length)
{
    struct acpi_header header = {
        .length = (uint32_t)length,
        .revision = revision,
        .oem_id = {'S', 'I', 'L', 'L'},
        .oem_table_id = {'S', 'I', 'L', 'L', 'P', 'C'},
        .oem_revision = 1,
        .creator_id = {'S', 'I', 'L', 'L'},
        .creator_revision = 1,
    };

    memcpy(header.signature, signature, sizeof(header.signature));
    return header;
}

/* Copies a finished table in; returns its offset. */
static uint32_t put(struct builder *builder, const void *table, size_t size)
{
    uint32_t offset = 0;
    uint8_t *to = reserve(builder, size, 8, &offset);

    if (to) {
        memcpy(to, table, size);
        ((struct acpi_header *)to)->checksum = 0;
        note_table(builder, offset, size);
    }
    return offset;
}

static void list(struct builder *builder, uint32_t offset)
{
    builder->listed[builder->listed_count++] = offset;
}

/* ---- FADT (5.2.9) and FACS (5.2.10) ---- */

/* 5.2.3.2 */
struct generic_address {
    uint8_t space; /* 0 memory, 1 I/O */
    uint8_t bit_width;
    uint8_t bit_offset;
    uint8_t access_size; /* 1 byte, 2 word, 3 dword */
    uint64_t address;
} __attribute__((packed));

struct facs {
    char signature[4];
    uint32_t length;
    uint32_t hardware_signature;
    uint32_t waking_vector;
    uint32_t global_lock;
    uint32_t flags;
    uint64_t x_waking_vector;
    uint8_t version;
    uint8_t reserved[31];
} __attribute__((packed));

struct fadt {
    struct acpi_header header;
    uint32_t facs;
    uint32_t dsdt;
    uint8_t reserved0;
    uint8_t preferred_profile;
    uint16_t sci_interrupt;
    uint32_t smi_command;
    uint8_t acpi_enable, acpi_disable;
    uint8_t s4bios_request, pstate_control;
    uint32_t pm1a_event, pm1b_event;
    uint32_t pm1a_control, pm1b_control;
    uint32_t pm2_control;
    uint32_t pm_timer;
    uint32_t gpe0, gpe1;
    uint8_t pm1_event_length, pm1_control_length, pm2_control_length, pm_timer_length;
    uint8_t gpe0_length, gpe1_length, gpe1_base;
    uint8_t cst_control;
    uint16_t c2_latency, c3_latency;
    uint16_t flush_size, flush_stride;
    uint8_t duty_offset, duty_width;
    uint8_t day_alarm, month_alarm, century;
    uint16_t boot_architecture;
    uint8_t reserved1;
    uint32_t flags;
    struct generic_address reset_register;
    uint8_t reset_value;
    uint16_t arm_boot_architecture;
    uint8_t minor_version;
    uint64_t x_facs;
    uint64_t x_dsdt;
    struct generic_address x_pm1a_event, x_pm1b_event;
    struct generic_address x_pm1a_control, x_pm1b_control;
    struct generic_address x_pm2_control;
    struct generic_address x_pm_timer;
    struct generic_address x_gpe0, x_gpe1;
    struct generic_address sleep_control, sleep_status;
    uint64_t hypervisor_vendor;
} __attribute__((packed));

#define FADT_REVISION 6
#define FADT_MINOR_VERSION 3
#define FADT_PROFILE_DESKTOP 1
#define FADT_LATENCY_NO_C2 101 /* microseconds that mean "not there" */
#define FADT_LATENCY_NO_C3 1001
#define FADT_WBINVD (1u << 0)
#define FADT_PROC_C1 (1u << 2)
#define FADT_NO_SLEEP_BUTTON (1u << 5)
#define FADT_TMR_VAL_EXT (1u << 8)
#define FADT_RESET_REG_SUP (1u << 10)
#define BOOT_LEGACY_DEVICES (1u << 0)
#define BOOT_8042 (1u << 1)
#define BOOT_NO_VGA (1u << 2)

#define SCI_INTERRUPT 9
#define RESET_VALUE 6 /* of port 0xcf9: hard reset */
#define CMOS_CENTURY 0x32
#define PM1_EVENT 0u
#define PM1_EVENT_LENGTH 4
#define PM1_CONTROL 4u
#define PM1_CONTROL_LENGTH 2
#define PM_TIMER 8u
#define PM_TIMER_LENGTH 4
#define GPE0 0x20u
#define GPE0_LENGTH (ACPI_PM_GPE_COUNT / 8 * 2) /* status and enable bits */

static struct generic_address port(uint16_t address, uint8_t bytes, uint8_t access_size)
{
    return (struct generic_address){
        .space = 1, .bit_width = bytes * 8, .access_size = access_size, .address = address};
}

static uint32_t put_facs(struct builder *builder)
{
    struct facs facs = {.signature = {'F', 'A', 'C', 'S'}, .length = sizeof(facs), .version = 2};
    uint32_t offset = 0;
    void *to = reserve(builder, sizeof(facs), ACPI_IMAGE_ALIGN, &offset);

    if (to)
        memcpy(to, &facs, sizeof(facs));
    return offset;
}

static void put_fadt(struct builder *builder, const struct board_description *board, uint32_t facs,
                     uint32_t dsdt)
{
    const uint16_t pm = ACPI_PM_DEFAULT_BASE;
    struct fadt fadt = {
        .header = header("FACP", FADT_REVISION, sizeof(fadt)),
        .facs = facs,
        .dsdt = dsdt,
        .x_dsdt = dsdt,
        .preferred_profile = FADT_PROFILE_DESKTOP,
        .sci_interrupt = SCI_INTERRUPT,
        .smi_command = ACPI_PM_SMI_CMD,
        .acpi_enable = ACPI_PM_CMD_ENABLE,
        .acpi_disable = ACPI_PM_CMD_DISABLE,
        .pm1a_event = pm + PM1_EVENT,
        .x_pm1a_event = port(pm + PM1_EVENT, PM1_EVENT_LENGTH, 2),
        .pm1_event_length = PM1_EVENT_LENGTH,
        .pm1a_control = pm + PM1_CONTROL,
        .x_pm1a_control = port(pm + PM1_CONTROL, PM1_CONTROL_LENGTH, 2),
        .pm1_control_length = PM1_CONTROL_LENGTH,
        .pm_timer = pm + PM_TIMER,
        .x_pm_timer = port(pm + PM_TIMER, PM_TIMER_LENGTH, 3),
        .pm_timer_length = PM_TIMER_LENGTH,
        .gpe0 = pm + GPE0,
        .x_gpe0 = port(pm + GPE0, GPE0_LENGTH, 1),
        .gpe0_length = GPE0_LENGTH,
        .c2_latency = FADT_LATENCY_NO_C2,
        .c3_latency = FADT_LATENCY_NO_C3,
        .century = CMOS_CENTURY,
        .boot_architecture =
            BOOT_LEGACY_DEVICES | (board->i8042 ? BOOT_8042 : 0) | (board->vga ? 0 : BOOT_NO_VGA),
        .flags = FADT_WBINVD | FADT_PROC_C1 | FADT_NO_SLEEP_BUTTON | FADT_TMR_VAL_EXT |
                 FADT_RESET_REG_SUP,
        .reset_register = port(ACPI_PM_RESET_PORT, 1, 1),
        .reset_value = RESET_VALUE,
        .minor_version = FADT_MINOR_VERSION,
    };

    uint32_t at = put(builder, &fadt, sizeof(fadt));
    list(builder, at);
    note_pointer(builder->image, false, at + offsetof(struct fadt, facs), sizeof(fadt.facs));
    note_pointer(builder->image, false, at + offsetof(struct fadt, dsdt), sizeof(fadt.dsdt));
    note_pointer(builder->image, false, at + offsetof(struct fadt, x_dsdt), sizeof(fadt.x_dsdt));
}

/* ---- MADT (5.2.12) ---- */

struct madt {
    struct acpi_header header;
    uint32_t local_apic;
    uint32_t flags;
} __attribute__((packed));

#define MADT_REVISION 5
#define MADT_PCAT_COMPAT (1u << 0) /* there are 8259s, too */

struct madt_local_apic {
    uint8_t type, length;
    uint8_t uid;
    uint8_t apic_id;
    uint32_t flags;
} __attribute__((packed));

struct madt_ioapic {
    uint8_t type, length;
    uint8_t id;
    uint8_t reserved;
    uint32_t address;
    uint32_t first_gsi;
} __attribute__((packed));

struct madt_override {
    uint8_t type, length;
    uint8_t bus;
    uint8_t isa_interrupt;
    uint32_t gsi;
    uint16_t flags;
} __attribute__((packed));

struct madt_local_nmi {
    uint8_t type, length;
    uint8_t uid;
    uint16_t flags;
    uint8_t lint;
} __attribute__((packed));

struct madt_local_x2apic {
    uint8_t type, length;
    uint16_t reserved;
    uint32_t apic_id;
    uint32_t flags;
    uint32_t uid;
} __attribute__((packed));

struct madt_x2apic_nmi {
    uint8_t type, length;
    uint16_t flags;
    uint32_t uid;
    uint8_t lint;
    uint8_t reserved[3];
} __attribute__((packed));

enum madt_type {
    MADT_LOCAL_APIC = 0,
    MADT_IOAPIC = 1,
    MADT_OVERRIDE = 2,
    MADT_LOCAL_NMI = 4,
    MADT_LOCAL_X2APIC = 9,
    MADT_X2APIC_NMI = 10,
};

#define MADT_ENABLED (1u << 0)
#define MADT_LEVEL_HIGH 0x0du
#define XAPIC_IDS 255u /* 8-bit ids, the last of which means all CPUs */
#define TIMER_GSI 2

static void madt_entries(struct aml *table, unsigned cpus)
{
    for (unsigned i = 0; i < cpus && i < XAPIC_IDS; i++) {
        struct madt_local_apic cpu = {MADT_LOCAL_APIC, sizeof(cpu), (uint8_t)i, (uint8_t)i,
                                      MADT_ENABLED};
        aml_bytes(table, &cpu, sizeof(cpu));
    }
    for (unsigned i = XAPIC_IDS; i < cpus; i++) {
        struct madt_local_x2apic cpu = {MADT_LOCAL_X2APIC, sizeof(cpu), 0, i, MADT_ENABLED, i};
        aml_bytes(table, &cpu, sizeof(cpu));
    }

    const struct madt_ioapic ioapic = {MADT_IOAPIC, sizeof(ioapic), 0, 0, LAYOUT_IOAPIC_BASE, 0};
    /* ISA interrupt n is GSI n, edge triggered, but for these two. */
    const struct madt_override overrides[] = {
        {MADT_OVERRIDE, sizeof(overrides[0]), 0, 0, TIMER_GSI, 0},
        {MADT_OVERRIDE, sizeof(overrides[0]), 0, SCI_INTERRUPT, SCI_INTERRUPT, MADT_LEVEL_HIGH},
    };
    const struct madt_local_nmi nmi = {MADT_LOCAL_NMI, sizeof(nmi), 0xff, 0, 1};
    const struct madt_x2apic_nmi x2apic_nmi = {
        MADT_X2APIC_NMI, sizeof(x2apic_nmi), 0, UINT32_MAX, 1, {0}};

    aml_bytes(table, &ioapic, sizeof(ioapic));
    aml_bytes(table, overrides, sizeof(overrides));
    aml_bytes(table, &nmi, sizeof(nmi));
    if (cpus > XAPIC_IDS)
        aml_bytes(table, &x2apic_nmi, sizeof(x2apic_nmi));
}

/* ---- tables of variable length ---- */

/*
 * A table is written straight to where it goes: `fixed` (header first), then what `fill` appends.
 * Returns its offset.
 */
static uint32_t put_variable(struct builder *builder, const void *fixed, size_t fixed_size,
                             void (*fill)(struct aml *, const struct board_description *),
                             const struct board_description *board)
{
    struct acpi_image *image = builder->image;
    uint32_t offset = 0;
    uint8_t *to = reserve(builder, fixed_size, 8, &offset);

    if (!to)
        return 0;
    struct aml table = {.data = to, .size = sizeof(image->data) - offset};
    aml_bytes(&table, fixed, fixed_size);
    fill(&table, board);
    builder->overflow |= table.overflow;
    image->used = (uint32_t)(offset + table.used);
    ((struct acpi_header *)to)->length = (uint32_t)table.used;
    note_table(builder, offset, table.used);
    return offset;
}

static void fill_madt(struct aml *table, const struct board_description *board)
{
    madt_entries(table, board->cpus);
}

static void put_madt(struct builder *builder, const struct board_description *board)
{
    const struct madt madt = {
        .header = header("APIC", MADT_REVISION, 0),
        .local_apic = LAYOUT_LAPIC_BASE,
        .flags = MADT_PCAT_COMPAT,
    };

    list(builder, put_variable(builder, &madt, sizeof(madt), fill_madt, board));
}

#define SSDT_REVISION 2

static void put_ssdt(struct builder *builder, const struct board_description *board)
{
    const struct acpi_header ssdt = header("SSDT", SSDT_REVISION, 0);

    list(builder, put_variable(builder, &ssdt, sizeof(ssdt), acpi_write_ssdt, board));
}

/* ---- MCFG and HPET ---- */

struct mcfg {
    struct acpi_header header;
    uint64_t reserved0;
    uint64_t base;
    uint16_t segment;
    uint8_t first_bus, last_bus;
    uint32_t reserved1;
} __attribute__((packed));

static void put_mcfg(struct builder *builder)
{
    const struct mcfg mcfg = {
        .header = header("MCFG", 1, sizeof(mcfg)),
        .base = LAYOUT_ECAM_BASE,
        .last_bus = 255,
    };

    list(builder, put(builder, &mcfg, sizeof(mcfg)));
}

struct hpet_table {
    struct acpi_header header;
    uint32_t block_id;
    struct generic_address base;
    uint8_t number;
    uint16_t minimum_tick;
    uint8_t page_protection;
} __attribute__((packed));

static void put_hpet(struct builder *builder)
{
    const struct hpet_table hpet = {
        .header = header("HPET", 1, sizeof(hpet)),
        .block_id = HPET_BLOCK_ID,
        .base = {.bit_width = 64, .address = LAYOUT_HPET_BASE},
    };

    list(builder, put(builder, &hpet, sizeof(hpet)));
}

/* ---- RSDP (5.2.5), RSDT and XSDT (5.2.7, 5.2.8) ---- */

#define RSDP_REVISION 2
#define RSDP_LENGTH_1_0 20

/* Lists the tables by pointers of `width` bytes. */
static uint32_t put_root(struct builder *builder, const char *signature, size_t width)
{
    uint8_t table[sizeof(struct acpi_header) + MAX_TABLES * sizeof(uint64_t)];
    size_t length = sizeof(struct acpi_header) + builder->listed_count * width;
    struct acpi_header head = header(signature, 1, length);

    memcpy(table, &head, sizeof(head));
    for (unsigned i = 0; i < builder->listed_count; i++) {
        uint64_t offset = builder->listed[i];
        memcpy(table + sizeof(head) + i * width, &offset, width);
    }
    uint32_t at = put(builder, table, length);
    for (unsigned i = 0; i < builder->listed_count; i++)
        note_pointer(builder->image, false, at + sizeof(head) + i * width, width);
    return at;
}

static void fill_rsdp(struct acpi_image *image, uint32_t rsdt, uint32_t xsdt)
{
    image->rsdp = (struct acpi_rsdp){
        .signature = {'R', 'S', 'D', ' ', 'P', 'T', 'R', ' '},
        .oem_id = {'S', 'I', 'L', 'L'},
        .revision = RSDP_REVISION,
        .rsdt = rsdt,
        .length = sizeof(image->rsdp),
        .xsdt = xsdt,
    };
    note_pointer(image, true, offsetof(struct acpi_rsdp, rsdt), sizeof(image->rsdp.rsdt));
    note_pointer(image, true, offsetof(struct acpi_rsdp, xsdt), sizeof(image->rsdp.xsdt));
    /* The second covers the first's byte. */
    note_checksum(image, true, offsetof(struct acpi_rsdp, checksum), 0, RSDP_LENGTH_1_0);
    note_checksum(image, true, offsetof(struct acpi_rsdp, extended_checksum), 0,
                  sizeof(image->rsdp));
}

int acpi_build_image(const struct board_description *board, struct acpi_image **out,
                     struct error *err)
{
    struct builder builder = {.image = calloc(1, sizeof(*builder.image))};

    if (!builder.image)
        return error_set(err, -ENOMEM, "no memory to build the ACPI tables");
    uint32_t facs = put_facs(&builder);
    uint32_t dsdt = put(&builder, dsdt_aml_code, sizeof(dsdt_aml_code));
    put_fadt(&builder, board, facs, dsdt);
    put_madt(&builder, board);
    put_mcfg(&builder);
    if (board->hpet)
        put_hpet(&builder);
    put_ssdt(&builder, board);
    uint32_t rsdt = put_root(&builder, "RSDT", sizeof(uint32_t));
    uint32_t xsdt = put_root(&builder, "XSDT", sizeof(uint64_t));
    fill_rsdp(builder.image, rsdt, xsdt);
    if (builder.overflow) {
        free(builder.image);
        return error_set(err, -E2BIG, "the ACPI tables have no room for %u CPUs", board->cpus);
    }
    *out = builder.image;
    return 0;
}

/* Turns offsets into addresses, and then makes the sums right. */
static void place(struct acpi_image *image, gpa_t base)
{
    uint8_t *rsdp = (uint8_t *)&image->rsdp;

    for (unsigned i = 0; i < image->pointer_count; i++) {
        const struct acpi_pointer *pointer = &image->pointer[i];
        uint8_t *at = (pointer->in_rsdp ? rsdp : image->data) + pointer->at;
        uint64_t value = 0;

        memcpy(&value, at, pointer->width);
        value += base;
        memcpy(at, &value, pointer->width);
    }
    for (unsigned i = 0; i < image->sum_count; i++) {
        const struct acpi_sum *sum = &image->sum[i];
        uint8_t *bytes = sum->in_rsdp ? rsdp : image->data;

        bytes[sum->at] = checksum(bytes + sum->start, sum->length);
    }
}

int acpi_build(const struct board_description *board, struct memory *mem, gpa_t *rsdp,
               struct error *err)
{
    const gpa_t base = ALIGN_UP(LAYOUT_ACPI_BASE + sizeof(struct acpi_rsdp), ACPI_IMAGE_ALIGN);
    struct acpi_image *image;

    int ret = acpi_build_image(board, &image, err);
    if (ret)
        return ret;
    place(image, base);
    ret = memory_write(mem, LAYOUT_ACPI_BASE, &image->rsdp, sizeof(image->rsdp));
    if (!ret)
        ret = memory_write(mem, base, image->data, image->used);
    if (ret)
        error_set(err, ret, "no guest memory for the ACPI tables at 0x%x", LAYOUT_ACPI_BASE);
    else
        *rsdp = LAYOUT_ACPI_BASE;
    free(image);
    return ret;
}
