/*
 * What the tests of the boot loaders share: a guest with memory but no CPUs, and kernel files made
 * of bytes.
 */
#ifndef SILL_TESTS_BOOT_FIXTURE_H
#define SILL_TESTS_BOOT_FIXTURE_H

#include "boot/boot.h"

struct boot_fixture {
    struct memory mem;
    struct layout layout;
    struct boot_config config; /* `kernel` is the test's to set */
    struct x86_vcpu_state state;
    struct error err;
};

/* RAM where the board has it. A failure ends the test. */
void boot_fixture_init(struct boot_fixture *fixture, uint64_t memory);
void boot_fixture_done(struct boot_fixture *fixture);

/* The path of a file with these bytes. It exists until boot_fixture_done(). */
const char *boot_fixture_file(const void *bytes, uint64_t size);

/* Loads; the boot must work. */
void boot_fixture_load(struct boot_fixture *fixture);
/* Loads; it must fail with `code` and a sentence that has both texts in it. */
void boot_fixture_refuse(struct boot_fixture *fixture, int code, const char *text,
                         const char *other_text);

/* Guest memory; a failure ends the test. */
void boot_fixture_read(struct boot_fixture *fixture, gpa_t gpa, void *to, uint64_t length);
/* The zero-terminated string there. */
const char *boot_fixture_string(struct boot_fixture *fixture, gpa_t gpa);

/* Checks the flat 32-bit entry state that PVH, multiboot and Linux's 32-bit protocol share. */
void boot_fixture_check_protected(struct boot_fixture *fixture, uint32_t entry);

#endif
