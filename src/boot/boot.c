/* Direct boot: identifies the kernel and does what all formats share; see boot.h, loader.h.
 * Control thread. */
#include "boot/boot.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>

#include "boot/loader.h"
#include "x86/lapic_regs.h"

/* Low memory for boot information. What lies below is where small guests like to put the start-up
 * code of their other CPUs. */
#define LOW_MIN 0x10000u
#define LOW_MAX LAYOUT_EBDA

/* ---- steps of a job ---- */

static uint64_t guest_memory(const struct boot_job *job)
{
    return job->config->layout->ram_below_4g + job->config->layout->ram_above_4g;
}

int boot_too_little(const struct boot_job *job, const char *path, uint64_t needed,
                    struct error *err)
{
    return error_set(
        err, -ENOMEM,
        "%s: the guest's %" PRIu64 " MiB of memory are too little to load it; at least "
        "%" PRIu64 " MiB are needed",
        path, (uint64_t)(guest_memory(job) / MIB), (uint64_t)((needed + MIB - 1) / MIB));
}

/* What the RAM disk will add to the kernel's need; 0 when that is not (yet) known. */
static uint64_t initrd_size(const struct boot_job *job)
{
    struct stat st;

    return job->config->initrd && !stat(job->config->initrd, &st) ? (uint64_t)st.st_size : 0;
}

int boot_take_kernel(struct boot_job *job, gpa_t base, uint64_t size, struct error *err)
{
    const char *path = job->kernel.path;

    switch (boot_space_take(&job->space, base, size)) {
    case 0:
        return 0;
    case -EEXIST:
        return error_set(err, -ENOEXEC,
                         "%s: the part of the kernel at 0x%" PRIx64 " overlaps another, or memory "
                         "that the firmware uses",
                         path, base);
    case -ENOSPC:
        return error_set(err, -ENOEXEC, "%s: the kernel has too many parts", path);
    default:
        if (base >= LAYOUT_HIGH_BASE && base < LAYOUT_RAM_BELOW_MAX &&
            size <= LAYOUT_RAM_BELOW_MAX - base)
            return boot_too_little(job, path, base + size + initrd_size(job), err);
        return error_set(err, -ENOEXEC,
                         "%s: the kernel wants %" PRIu64 " bytes at 0x%" PRIx64
                         ", where the machine has no memory",
                         path, size, base);
    }
}

int boot_load_module(struct boot_job *job, const char *path, gpa_t min, gpa_t max, bool highest,
                     struct boot_span *span, struct error *err)
{
    struct boot_file file;
    int ret = boot_file_open(&file, path, err);
    if (ret)
        return ret;

    *span = (struct boot_span){.size = file.size};
    if (file.size) {
        ret = (highest ? boot_space_highest : boot_space_lowest)(
            &job->space, file.size, GUEST_PAGE_SIZE, min, max, &span->base);
        if (ret == -ENOMEM) {
            uint64_t taken = 0;
            for (unsigned i = 0; i < job->space.count; i++)
                taken += job->space.taken[i].size;
            if (taken + file.size > guest_memory(job) - LAYOUT_HIGH_BASE)
                boot_too_little(job, path, LAYOUT_HIGH_BASE + taken + file.size, err);
            else
                error_set(err, ret,
                          "%s: no room for its %" PRIu64 " bytes where the kernel %s can use them "
                          "(0x%" PRIx64 " to 0x%" PRIx64 ")",
                          path, file.size, job->kernel.path, min, max - 1);
        } else if (ret) {
            error_set(err, ret, "%s: too many files to load", path);
        } else {
            ret = boot_file_load(&file, 0, job->mem, span->base, file.size, err);
        }
    }
    boot_file_close(&file);
    return ret;
}

int boot_take_low(struct boot_job *job, uint64_t size, uint64_t align, gpa_t *base,
                  struct error *err)
{
    int ret = boot_space_lowest(&job->space, size, align, LOW_MIN, LOW_MAX, base);

    return ret ? error_set(err, ret,
                           "%s: the kernel leaves no room below 1 MiB for its boot information",
                           job->kernel.path)
               : 0;
}

int boot_put_string(struct boot_job *job, const char *text, uint64_t max, gpa_t *base,
                    struct error *err)
{
    size_t length = strlen(text);

    if (length > max)
        return error_set(err, -E2BIG,
                         "the kernel command line of %zu characters is too long: %s takes at most "
                         "%" PRIu64,
                         length, job->kernel.path, max);
    int ret = boot_take_low(job, length + 1, 16, base, err);
    return ret ? ret : boot_write(job, *base, text, length + 1, err);
}

int boot_write(struct boot_job *job, gpa_t gpa, const void *from, uint64_t length,
               struct error *err)
{
    int ret = memory_write(job->mem, gpa, from, length);

    return ret ? error_set(err, ret, "no guest memory at 0x%" PRIx64, gpa) : 0;
}

int boot_zero(struct boot_job *job, gpa_t gpa, uint64_t length, struct error *err)
{
    if (!length)
        return 0;
    void *host = memory_host(job->mem, gpa, length, true);
    if (!host)
        return error_set(err, -EFAULT, "no guest memory at 0x%" PRIx64, gpa);
    memset(host, 0, length);
    memory_mark_written(job->mem, gpa, length);
    return 0;
}

/* ---- boot_load() ---- */

/* Virtual wire mode (MultiProcessor specification 1.4, 3.6.2.2): firmware leaves the boot CPU's
 * local APIC so that the 8259s and NMIs reach it. */
static void wire_lapic(struct x86_vcpu_state *state)
{
    static const struct {
        unsigned offset;
        uint32_t value;
    } registers[] = {
        {LAPIC_SVR, LAPIC_SVR_RESET | LAPIC_SVR_ENABLE},
        {LAPIC_LVT_LINT0, LAPIC_EXTINT_MODE << 8},
        {LAPIC_LVT_LINT1, LAPIC_NMI << 8},
    };

    for (unsigned i = 0; i < ARRAY_SIZE(registers); i++)
        memcpy(state->lapic + registers[i].offset, &registers[i].value, sizeof(uint32_t));
}

static const struct boot_format *const formats[] = {
    &boot_format_linux,
    &boot_format_multiboot,
    &boot_format_pvh,
};

static int load_kernel(struct boot_job *job, struct error *err)
{
    for (unsigned i = 0; i < ARRAY_SIZE(formats); i++) {
        int ret = formats[i]->probe(job, err);
        if (ret < 0)
            return ret;
        if (ret)
            return formats[i]->load(job, err);
    }
    return error_set(err, -ENOEXEC,
                     "%s: not a kernel that can be started: it is no Linux bzImage, no multiboot "
                     "kernel and no ELF file with a PVH entry",
                     job->kernel.path);
}

int boot_load(const struct boot_config *config, struct memory *mem, struct x86_vcpu_state *state,
              struct error *err)
{
    struct x86_vcpu_state entered;
    struct boot_job job = {.config = config, .mem = mem, .state = &entered};
    struct layout_map map;

    int ret = boot_file_open(&job.kernel, config->kernel, err);
    if (ret)
        return ret;
    layout_memory_map(config->layout, &map);
    boot_space_init(&job.space, &map);
    ret = load_kernel(&job, err);
    boot_file_close(&job.kernel);
    if (ret)
        return ret;
    wire_lapic(&entered);
    boot_set_mtrrs(&entered, config->layout);
    *state = entered;
    return 0;
}
