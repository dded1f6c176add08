/*
 * Fuzzes the readers of kernel files: whatever a file holds, it is loaded into guest RAM or refused
 * with a sentence. The first input byte chooses command line and module.
 *
 * The guest is small and shared by all inputs: what an earlier one left in its memory must not
 * matter.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "boot/boot.h"
#include "fuzz.h"

#define CHOICE_APPEND 1u
#define CHOICE_INITRD 2u

static struct {
    struct memory mem;
    struct layout layout;
    int kernel, initrd;
    char kernel_path[32], initrd_path[32];
} guest;

static int make_file(const char *name, char path[32])
{
    int fd = memfd_create(name, MFD_CLOEXEC);

    if (fd < 0)
        abort();
    snprintf(path, 32, "/proc/self/fd/%d", fd);
    return fd;
}

static void init(void)
{
    struct error err;

    memory_init(&guest.mem, 0);
    if (layout_init(&guest.layout, LAYOUT_MEMORY_MIN, 40, &err) ||
        memory_add(&guest.mem, 0, LAYOUT_VGA_BASE, 0, "low", &err) ||
        memory_add(&guest.mem, LAYOUT_TABLES_BASE, LAYOUT_MEMORY_MIN - LAYOUT_TABLES_BASE, 0, "ram",
                   &err))
        abort();
    guest.kernel = make_file("kernel", guest.kernel_path);
    guest.initrd = make_file("initrd", guest.initrd_path);
    if (write(guest.initrd, "initrd", 6) != 6)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct boot_config config = {.kernel = guest.kernel_path, .layout = &guest.layout};
    struct x86_vcpu_state state;
    struct error err = {0};

    if (!guest.kernel)
        init();
    if (!size)
        return 0;
    if (data[0] & CHOICE_APPEND)
        config.append = "quiet";
    if (data[0] & CHOICE_INITRD)
        config.initrd = guest.initrd_path;
    if (ftruncate(guest.kernel, 0) ||
        pwrite(guest.kernel, data + 1, size - 1, 0) != (ssize_t)size - 1)
        abort();

    int ret = boot_load(&config, &guest.mem, &state, &err);
    /* A refusal says why; what is entered lies in RAM. */
    if (ret ? !err.text[0] : !memory_host(&guest.mem, state.rip, 1, false))
        abort();
    return 0;
}
