/*
 * What the loaders of the kernel formats share: the job they work on and the steps that are the
 * same for all. Internal to src/boot; boot.h is the way in. Control thread.
 */
#ifndef SILL_BOOT_LOADER_H
#define SILL_BOOT_LOADER_H

#include "base/error.h"
#include "base/types.h"
#include "boot/boot.h"
#include "boot/cpu.h"
#include "boot/file.h"
#include "boot/space.h"

/* One boot_load(). */
struct boot_job {
    const struct boot_config *config;
    struct memory *mem;
    struct boot_file kernel;
    struct boot_space space;
    struct x86_vcpu_state *state; /* out */
};

/*
 * The formats. `probe` says whether the kernel is one (0 or 1, negative for a file that cannot be
 * read); `load` does everything: kernel, RAM disk or modules, command line, boot information, CPU.
 */
struct boot_format {
    int (*probe)(const struct boot_job *job, struct error *err);
    int (*load)(struct boot_job *job, struct error *err);
};

extern const struct boot_format boot_format_linux;
extern const struct boot_format boot_format_multiboot;
extern const struct boot_format boot_format_pvh;

/* Takes room for the kernel at [base, base + size); the error names the kernel and says how much
 * memory it needs there. */
SILL_CHECKED int boot_take_kernel(struct boot_job *job, gpa_t base, uint64_t size,
                                  struct error *err);

/* "FILE: the guest's memory is too little"; `needed`: how many bytes the guest should have. Returns
 * -ENOMEM. */
int boot_too_little(const struct boot_job *job, const char *path, uint64_t needed,
                    struct error *err);

/* Loads the file at `path` page aligned into [min, max), as high as possible or as low. */
SILL_CHECKED int boot_load_module(struct boot_job *job, const char *path, gpa_t min, gpa_t max,
                                  bool highest, struct boot_span *span, struct error *err);

/* Room below 1 MiB for the small things: boot information, command line, tables. */
SILL_CHECKED int boot_take_low(struct boot_job *job, uint64_t size, uint64_t align, gpa_t *base,
                               struct error *err);

/* Puts a command line there; -E2BIG when it is longer than `max` bytes without its final 0. */
SILL_CHECKED int boot_put_string(struct boot_job *job, const char *text, uint64_t max, gpa_t *base,
                                 struct error *err);

/* Writes to RAM that the job has taken. */
SILL_CHECKED int boot_write(struct boot_job *job, gpa_t gpa, const void *from, uint64_t length,
                            struct error *err);
SILL_CHECKED int boot_zero(struct boot_job *job, gpa_t gpa, uint64_t length, struct error *err);

#endif
