/*
 * UEFI firmware on the board: OVMF's code as ROM that ends at 4 GiB, where the processor starts,
 * and below it the flash with the variables. The firmware's own volume map wants them there
 * (OVMF_CODE_4M.fd and OVMF_VARS_4M.fd are two parts of one flash image of 4 MiB). Control thread,
 * but for show_flash().
 */
#include "machine/pc_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "dev/legacy/pflash.h"

#define CPUID_ADDRESS_SIZES 0x80000008
#define PHYSICAL_BITS_LIMIT 40

/*
 * OVMF maps all that the CPU can address, in pages of 2 MiB, as soon as the CPU has more than 40
 * physical address bits (PlatformAddressWidthFromCpuid() takes up to 40 for a hypervisor's
 * invention). With 48 bits the page tables take 1 GiB and many seconds. It chooses what is enough
 * for the VM's memory otherwise, and a VM whose memory needs more than 40 bits has the space for
 * such tables.
 */
void pc_uefi_limit_cpuid(const struct pc *pc, struct x86_cpuid *cpuid)
{
    if (pc->config.firmware != PC_FIRMWARE_UEFI ||
        pc->config.memory > 1ull << (PHYSICAL_BITS_LIMIT - 1))
        return;
    for (unsigned i = 0; i < cpuid->count; i++) {
        struct x86_cpuid_leaf *leaf = &cpuid->leaf[i];
        if (leaf->leaf == CPUID_ADDRESS_SIZES && (leaf->eax & 0xff) > PHYSICAL_BITS_LIMIT)
            leaf->eax = (leaf->eax & ~0xffu) | PHYSICAL_BITS_LIMIT;
    }
}

/* pflash_config.show */
static void show_flash(void *opaque, gpa_t base, bool shown)
{
    struct pc *pc = opaque;
    struct error err;

    memory_set_flags(&pc->memory, base, MEMORY_READONLY | (shown ? 0 : MEMORY_HIDDEN));
    if (pc->config.engine->memory_changed(pc->engine_vm, base, pc->uefi_flash_size, &err))
        log_error("flash: %s", err.text);
}

static int store_flash(void *opaque, uint64_t offset, const uint8_t *data, uint64_t length)
{
    struct pc *pc = opaque;

    return uefi_store_write(&pc->uefi_store, offset, data, length);
}

static int add_rom(struct pc *pc, gpa_t base, const uint8_t *data, uint64_t size, const char *name,
                   struct error *err)
{
    int result = memory_add(&pc->memory, base, size, MEMORY_READONLY, name, err);
    if (!result)
        memcpy(memory_find(&pc->memory, base)->host, data, size);
    return result;
}

int pc_add_uefi_memory(struct pc *pc, struct error *err)
{
    uint8_t *code = NULL, *variables = NULL;
    uint64_t code_size, variables_size;

    if (pc->config.firmware != PC_FIRMWARE_UEFI)
        return 0;
    /* OVMF chooses its own window for 64-bit BARs, above RAM: by the CPU's address bits the last
     * eighth of the space, or 32 GiB somewhere below. The ACPI tables name all there is. */
    if (pc->layout.pci64_size)
        pc->layout.pci64_size = (1ull << pc->layout.phys_bits) - pc->layout.pci64_base;

    int result = uefi_read_package_file(&code, &code_size, UEFI_CODE_FILE, err);
    if (!result)
        result = uefi_read_package_file(&variables, &variables_size, UEFI_VARS_TEMPLATE, err);
    if (!result)
        result =
            uefi_store_open(&pc->uefi_store, pc->config.uefi_vars, variables, variables_size, err);
    if (!result)
        result = add_rom(pc, 4 * GIB - code_size, code, code_size, "uefi-code", err);
    if (!result) {
        pc->uefi_flash_base = 4 * GIB - code_size - variables_size;
        pc->uefi_flash_size = variables_size;
        result = add_rom(pc, pc->uefi_flash_base, variables, variables_size, "uefi-vars", err);
    }
    free(code);
    free(variables);
    return result;
}

int pc_add_uefi_flash(struct pc *pc, struct error *err)
{
    const struct pflash_config config = {
        .name = "flash",
        .memory = &pc->memory,
        .base = pc->uefi_flash_base,
        .block_size = UEFI_BLOCK_SIZE,
        .opaque = pc,
        .show = show_flash,
        .store = store_flash,
    };
    struct pflash *flash;

    if (pc->config.firmware != PC_FIRMWARE_UEFI)
        return 0;
    if (pflash_new(&flash, &config))
        return error_set(err, -ENOMEM, "no memory for the flash of the UEFI firmware");
    pc_add_device(pc, pflash_device(flash));
    return pflash_attach(flash, &pc->bus, err);
}
