/* The command line of `sill run`; see options.h. */
#include "options.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "boot/layout.h"
#include "image.h"
#include "vm/config.h"
#include "vm/firmware.h"

#define DEFAULT_MEMORY (512 * MIB)
/* Two typing mistakes are forgiven when suggesting a word. */
#define NEAR_ENOUGH 2
#define WORD_MAX 32
#define NAME_MAX_LENGTH 64

/* ---- what each option does with its value ---- */

static int take_name(struct run_options *options, char *value, struct error *err)
{
    size_t length = strlen(value);
    if (length < 1 || length > NAME_MAX_LENGTH)
        return error_set(err, -EINVAL, "a name has 1 to %d characters, not %zu", NAME_MAX_LENGTH,
                         length);
    options->vm.board.name = value;
    return 0;
}

static int take_cache(struct run_options *options, const char *key, struct error *err)
{
    uint64_t size;

    if (strncmp(key, "cache=", 6) != 0)
        return error_set(err, -EINVAL, "'%s' is not known: use cache=SIZE", key);
    int result = config_parse_size(&size, key + 6, err);
    if (result)
        return result;
    if (size < ENGINE_CODE_CACHE_MIN || size > ENGINE_CODE_CACHE_MAX)
        return error_set(err, -EINVAL, "a code cache of %s does not do: use %lluM to %lluM",
                         key + 6, ENGINE_CODE_CACHE_MIN / MIB, ENGINE_CODE_CACHE_MAX / MIB);
    options->vm.board.code_cache_size = size;
    return 0;
}

static int take_engine(struct run_options *options, char *value, struct error *err)
{
    static const char *const names[] = {"auto", "kvm", "dbt"};
    char *key = strchr(value, ',');

    if (key)
        *key++ = '\0';
    options->engine = NULL;
    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        if (!strcmp(value, names[i]))
            options->engine = value;
    }
    if (!options->engine)
        return error_set(err, -EINVAL, "there is no engine '%s': use auto, kvm or dbt", value);
    if (key && !strcmp(value, "kvm"))
        return error_set(err, -EINVAL, "the engine kvm takes no '%s': it translates nothing", key);
    return key ? take_cache(options, key, err) : 0;
}

static int take_cpus(struct run_options *options, char *value, struct error *err)
{
    char *end;
    errno = 0;
    unsigned long cpus = strtoul(value, &end, 10);
    if (value[0] < '0' || value[0] > '9' || *end || errno || cpus < 1 || cpus > PC_MAX_CPUS)
        return error_set(err, -EINVAL, "'%s' is no number of vCPUs: use 1 to %d", value,
                         PC_MAX_CPUS);
    options->vm.board.cpus = (unsigned)cpus;
    return 0;
}

static int take_cpu(struct run_options *options, char *value, struct error *err)
{
    options->vm.board.cpu_model = value;
    return 0;
}

static int take_memory(struct run_options *options, char *value, struct error *err)
{
    uint64_t host = (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);
    uint64_t memory;
    int result = config_parse_size(&memory, value, err);
    if (result)
        return result;
    if (memory < LAYOUT_MEMORY_MIN)
        return error_set(err, -EINVAL, "%s is too little: a VM needs at least %lluM", value,
                         LAYOUT_MEMORY_MIN / MIB);
    if (memory > host)
        return error_set(err, -EINVAL, "%s is more than this host has: use up to %lluM", value,
                         (unsigned long long)(host / MIB));
    if (memory % GUEST_PAGE_SIZE)
        return error_set(err, -EINVAL, "%s is not a multiple of 4K", value);
    options->vm.board.memory = memory;
    return 0;
}

static int take_huge_pages(struct run_options *options, char *value, struct error *err)
{
    options->vm.board.huge_pages = true;
    return 0;
}

static int take_kernel(struct run_options *options, char *value, struct error *err)
{
    options->vm.board.kernel = value;
    return 0;
}

static int take_initrd(struct run_options *options, char *value, struct error *err)
{
    options->vm.board.initrd = value;
    return 0;
}

static int take_append(struct run_options *options, char *value, struct error *err)
{
    options->vm.board.append = value;
    return 0;
}

static int take_disk(struct run_options *options, char *value, struct error *err)
{
    unsigned *count = &options->vm.board.disk_count;
    if (*count == PC_MAX_DISKS)
        return error_set(err, -EINVAL, "'%s' is one disk too many: %d work", value, PC_MAX_DISKS);
    int result = block_parse_options(&options->disks[*count], value, err);
    if (!result)
        ++*count;
    return result;
}

static int take_cdrom(struct run_options *options, char *value, struct error *err)
{
    unsigned *count = &options->vm.board.disk_count;
    if (*count == PC_MAX_DISKS)
        return error_set(err, -EINVAL, "'%s' is one drive too many: %d work", value, PC_MAX_DISKS);
    int result = block_parse_cdrom_options(&options->disks[*count], value, err);
    if (!result)
        ++*count;
    return result;
}

static int take_console(struct run_options *options, char *value, struct error *err)
{
    return console_parse(&options->vm.console, value, err);
}

static int take_device(struct run_options *options, char *value, struct error *err)
{
    unsigned *count = &options->vm.device_count;
    if (*count == PC_MAX_EXTRAS)
        return error_set(err, -EINVAL, "'%s' is one device too many: %d work", value,
                         PC_MAX_EXTRAS);
    int result = config_parse_device(&options->vm.devices[*count], value, err);
    if (!result)
        ++*count;
    return result;
}

static int take_net(struct run_options *options, char *value, struct error *err)
{
    unsigned *count = &options->vm.board.net_count;
    if (!strcmp(value, "none"))
        return 0;
    if (*count == PC_MAX_NETS)
        return error_set(err, -EINVAL, "'%s' is one network too many: %d work", value, PC_MAX_NETS);
    int result = net_parse_options(&options->nets[*count], value, err);
    if (!result)
        ++*count;
    return result;
}

static int take_pci_slots(struct run_options *options, char *value, struct error *err)
{
    char *end;
    errno = 0;
    unsigned long slots = strtoul(value, &end, 10);
    if (value[0] < '0' || value[0] > '9' || *end || errno || slots > PC_MAX_SLOTS)
        return error_set(err, -EINVAL, "'%s' is no number of PCI slots: use 0 to %d", value,
                         PC_MAX_SLOTS);
    options->vm.board.slot_count = (unsigned)slots;
    return 0;
}

static int take_display(struct run_options *options, char *value, struct error *err)
{
    if (!strcmp(value, "none"))
        return 0;
    if (!strncmp(value, "vnc=", 4))
        return vnc_parse(&options->vm.vnc, value + 4, err);
    return error_set(err, -EINVAL, "there is no display '%s': use vnc=127.0.0.1:N or none", value);
}

static int take_vga(struct run_options *options, char *value, struct error *err)
{
    static const struct {
        const char *name;
        enum pc_vga vga;
    } kinds[] = {{"none", PC_VGA_NONE}, {"std", PC_VGA_STD}, {"virtio", PC_VGA_VIRTIO}};

    for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
        if (!strcmp(value, kinds[i].name)) {
            options->vm.board.vga = kinds[i].vga;
            return 0;
        }
    }
    return error_set(err, -EINVAL, "there is no display adapter '%s': use none, std or virtio",
                     value);
}

static int take_firmware(struct run_options *options, char *value, struct error *err)
{
    return firmware_parse(&options->vm.board, value, err);
}

static int take_fw_cfg(struct run_options *options, char *value, struct error *err)
{
    return firmware_parse_file(&options->vm.board, value, err);
}

static int take_boot(struct run_options *options, char *value, struct error *err)
{
    return firmware_parse_boot(&options->vm.board, value, err);
}

static int take_floppy(struct run_options *options, char *value, struct error *err)
{
    unsigned *count = &options->vm.board.floppy_count;
    if (*count == PC_MAX_FLOPPIES)
        return error_set(err, -EINVAL, "'%s' is one floppy disk too many: %d work", value,
                         PC_MAX_FLOPPIES);
    int result = block_parse_options(&options->floppies[*count], value, err);
    if (!result)
        ++*count;
    return result;
}

/* A word that is no option: an image, taken as it is, commas and all. */
static int take_image(struct run_options *options, const char *path, struct error *err)
{
    char text[2 * BLOCK_PATH_MAX];
    size_t length = 0;

    for (const char *from = path; *from; from++) {
        if (length >= sizeof(text) - 2)
            return error_set(err, -EINVAL, "the name of an image is longer than %d characters",
                             BLOCK_PATH_MAX - 1);
        text[length++] = *from;
        if (*from == ',')
            text[length++] = ',';
    }
    text[length] = '\0';

    int drive = image_drive(path);
    if (drive < 0)
        return error_set(err, drive,
                         "'%s' is no option, and cannot be opened as an image: %s; a value follows "
                         "its option, a kernel is --kernel FILE",
                         path, strerror(-drive));
    switch (drive) {
    case IMAGE_CDROM:
        return take_cdrom(options, text, err);
    case IMAGE_FLOPPY:
        return take_floppy(options, text, err);
    case IMAGE_KERNEL:
        return error_set(err, -EINVAL, "%s is a kernel: add --kernel in front of it", path);
    default:
        return take_disk(options, text, err);
    }
}

static int take_no_reboot(struct run_options *options, char *value, struct error *err)
{
    options->vm.no_reboot = true;
    return 0;
}

static int take_dry_run(struct run_options *options, char *value, struct error *err)
{
    options->dry_run = true;
    return 0;
}

static int take_quiet(struct run_options *options, char *value, struct error *err)
{
    options->quiet = true;
    return 0;
}

static int take_debug(struct run_options *options, char *value, struct error *err)
{
    if (strncmp(value, "dbt=", 4) != 0 || !value[4])
        return error_set(err, -EINVAL,
                         "'%s' is nothing to report: use dbt=WHAT, see 'sill help run'", value);
    options->vm.board.engine_debug = value + 4;
    return 0;
}

static int take_control(struct run_options *options, char *value, struct error *err)
{
    if (strncmp(value, "socket:", 7) != 0 || !value[7])
        return error_set(err, -EINVAL, "'%s' is no place to listen at: use socket:PATH", value);
    options->vm.control = value + 7;
    return 0;
}

static int take_stats(struct run_options *options, char *value, struct error *err)
{
    options->vm.stats = value;
    return 0;
}

static int take_gdb(struct run_options *options, char *value, struct error *err)
{
    return gdb_parse(&options->vm.gdb, value, err);
}

/* ---- the table ---- */

static const struct option {
    const char *name;
    const char *value; /* how help shows it; NULL: takes none */
    bool many;
    int (*take)(struct run_options *options, char *value, struct error *err);
    const char *help; /* NULL: not shown, since it does not exist yet */
} table[] = {
    {"kernel", "FILE", false, take_kernel, "Linux bzImage, ELF with a PVH note, or multiboot 1"},
    {"initrd", "FILE", false, take_initrd, "initial RAM disk; multiboot: modules, with commas"},
    {"append", "STRING", false, take_append, "its command line"},
    {"memory", "SIZE", false, take_memory, "512M (the default), 2G, ..."},
    {"cpus", "N", false, take_cpus, "vCPUs, 1 by default"},
    {"cpu", "MODEL", false, take_cpu, "host (the default), x86-64-v2 or x86-64-v3"},
    {"disk", "FILE[,key=value]", true, take_disk,
     "an image; keys: format=raw, readonly=on|off,\n"
     "discard=on|off, aio=auto|io_uring|thread,\n"
     "cache=writeback|writethrough|unsafe, serial=TEXT;\n"
     "if=virtio|ahci|ide: its controller, else virtio;\n"
     "a comma in FILE is written twice"},
    {"cdrom", "FILE[,if=ahci|ide]", true, take_cdrom,
     "an ISO image in a CD-ROM drive; none: no disc in it"},
    {"floppy", "FILE[,readonly=on]", true, take_floppy,
     "a floppy disk of 160 KiB to 2880 KiB, in A, then B"},
    {"firmware", "bios|uefi|FILE", false, take_firmware,
     "what starts the VM without --kernel, else chosen by\n"
     "what there is to boot. FILE: a BIOS's image;\n"
     "uefi,vars=FILE keeps UEFI's settings"},
    {"fw-cfg", "NAME=FILE", true, take_fw_cfg, "a file for the guest to find, NAME is opt/..."},
    {"boot", "order=CLASS,...|menu", false, take_boot,
     "what firmware boots from: disk, cd, floppy, net;\n"
     "menu: it offers a choice"},
    {"console", "CONSOLE", false, take_console, "where COM1 goes, stdio by default, see below"},
    {"device", "NAME[,key=value]", true, take_device, "one more device, see below"},
    {"net", "NET[,key=value]", true, take_net,
     "a network card: user (this host's, by NAT),\n"
     "tap=NAME or none; keys: model=virtio|e1000e,\n"
     "mac=ADDRESS; of user also net=10.0.2.0/24,\n"
     "hostfwd=tcp:127.0.0.1:8080-:80 (host-guest),\n"
     "hostname=NAME, restrict=on|off,\n"
     "tftp=DIR, bootfile=NAME; docs/network.md"},
    {"pci-slots", "N", false, take_pci_slots, "empty slots for 'sill ctl SOCKET device_add'"},
    {"display", "vnc=ADDRESS:N", false, take_display,
     "shows the screen at VNC display N of a numeric\n"
     "address, or at vnc=unix:PATH; ,password=FILE asks\n"
     "clients for the password in FILE. Default: none"},
    {"vga", "none|std|virtio", false, take_vga,
     "the display adapter: std is a VGA, the default with\n"
     "firmware; virtio is a GPU that starts as one;\n"
     "none with --kernel"},
    {"name", "NAME", false, take_name, "what the guest and messages call the VM"},
    {"engine", "ENGINE", false, take_engine,
     "auto (the default), kvm or dbt; see 'sill engines';\n"
     "dbt,cache=SIZE: most memory for translated code,\n"
     "4M to 1024M, 64M by default"},
    {"huge-pages", NULL, false, take_huge_pages, "ask the host for huge pages behind guest memory"},
    {"control", "socket:PATH", false, take_control,
     "a Unix socket for 'sill ctl', see docs/control.md"},
    {"stats", "FILE", false, take_stats,
     "what the engine counted, as JSON: at the end of the\n"
     "run and whenever this process gets SIGUSR1"},
    {"debug", "dbt=WHAT", false, take_debug,
     "what the engine dbt shall report on standard error:\n"
     "blocks, exits, dispatch, exceptions, counters, with\n"
     "commas; perfmap: /tmp/perf-PID.map for perf report"},
    {"gdb", "PLACE[,wait]", false, take_gdb,
     "lets GDB in at tcp:ADDRESS:PORT or unix:PATH; wait:\n"
     "the guest starts when GDB says so; arch=i386 or\n"
     "x86-64: what GDB sees, not what the guest's mode is"},
    {"no-reboot", NULL, false, take_no_reboot, "a reset by the guest ends the run with status 2"},
    {"dry-run", NULL, false, take_dry_run, "build the VM and load the kernel, then end"},
    {"quiet", NULL, false, take_quiet, "do not say which engine is used and why"},
};

/* Levenshtein distance, for words of up to WORD_MAX letters. */
static unsigned edit_distance(const char *a, const char *b)
{
    unsigned row[WORD_MAX + 1];
    size_t length = strlen(b);

    for (unsigned j = 0; j <= length; j++)
        row[j] = j;
    for (unsigned i = 1; *a; i++, a++) {
        unsigned diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= length; j++) {
            unsigned change = diagonal + (*a != b[j - 1]);
            diagonal = row[j];
            unsigned shift = (row[j - 1] < row[j] ? row[j - 1] : row[j]) + 1;
            row[j] = change < shift ? change : shift;
        }
    }
    return row[length];
}

const char *options_nearest(const char *typed, const char *const *words, size_t count)
{
    const char *nearest = NULL;
    unsigned least = NEAR_ENOUGH + 1;

    for (size_t i = 0; i < count; i++) {
        if (strlen(words[i]) > WORD_MAX)
            continue;
        unsigned distance = edit_distance(typed, words[i]);
        if (distance < least && distance < strlen(words[i])) {
            least = distance;
            nearest = words[i];
        }
    }
    return nearest;
}

static int unknown_option(const char *word, const char *name, struct error *err)
{
    const char *names[ARRAY_SIZE(table)];
    for (size_t i = 0; i < ARRAY_SIZE(table); i++)
        names[i] = table[i].name;
    const char *nearest = options_nearest(name, names, ARRAY_SIZE(names));
    if (nearest)
        return error_set(err, -EINVAL, "unknown option '%s': did you mean --%s?", word, nearest);
    return error_set(err, -EINVAL,
                     "unknown option '%s': 'sill help run' lists those that there are", word);
}

/* Splits "--name=value"; *value is NULL without "=". */
static const struct option *find_option(char *word, char **value, struct error *err)
{
    char name[WORD_MAX];

    *value = strchr(word, '=');
    size_t length = (*value ? (size_t)(*value - word) : strlen(word)) - 2;
    if (length < sizeof(name)) {
        memcpy(name, word + 2, length);
        name[length] = '\0';
        for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
            if (strcmp(name, table[i].name) != 0)
                continue;
            if (*value)
                ++*value;
            return &table[i];
        }
        unknown_option(word, name, err);
    } else {
        unknown_option(word, "", err);
    }
    return NULL;
}

/* Handles argv[*at] and moves past it and its value. */
static int parse_one(struct run_options *options, bool seen[], int argc, char **argv, int *at,
                     struct error *err)
{
    char *word = argv[(*at)++];
    char *value;

    if (word[0] != '-')
        return take_image(options, word, err);
    if (word[1] != '-')
        return unknown_option(word, word + 1, err);
    const struct option *option = find_option(word, &value, err);
    if (!option)
        return -EINVAL;
    bool *given = &seen[option - table];
    if (*given && !option->many)
        return error_set(err, -EINVAL, "option --%s is given twice", option->name);
    *given = true;
    if (!option->value && value)
        return error_set(err, -EINVAL, "option --%s takes no value", option->name);
    if (option->value && !value) {
        if (*at == argc)
            return error_set(err, -EINVAL, "option --%s needs a value: --%s %s", option->name,
                             option->name, option->value);
        value = argv[(*at)++];
    }
    int result = option->take(options, value, err);
    return result ? error_prefix(err, result, "--%s", option->name) : 0;
}

/* What no option can see alone. */
static int check_together(const struct run_options *options, struct error *err)
{
    const struct pc_config *board = &options->vm.board;
    if (!board->kernel && board->initrd)
        return error_set(err, -EINVAL, "--initrd %s needs a kernel: add --kernel FILE",
                         board->initrd);
    if (!board->kernel && board->append)
        return error_set(err, -EINVAL, "--append needs a kernel to read it: add --kernel FILE");
    if (board->kernel && board->firmware)
        return error_set(err, -EINVAL,
                         "--kernel and --firmware are two ways to start: leave one of them out");
    if (!board->kernel && !board->firmware && !board->disk_count && !board->floppy_count &&
        !board->boot_order_count)
        return error_set(err, -EINVAL,
                         "there is nothing to boot: name an image of a disk, a CD-ROM or a floppy "
                         "disk, or add --boot order=net, or --kernel FILE with a Linux bzImage, an "
                         "ELF kernel with a PVH note or a multiboot kernel; --firmware bios or "
                         "uefi starts without");
    return config_check(&options->vm, err);
}

int options_parse(struct run_options *options, int argc, char **argv, struct error *err)
{
    bool seen[ARRAY_SIZE(table)] = {0};

    *options = (struct run_options){
        .engine = "auto",
        .vm =
            {
                .board = {.name = "sill",
                          .cpus = 1,
                          .cpu_model = "host",
                          .memory = DEFAULT_MEMORY,
                          .floppies = options->floppies,
                          .disks = options->disks,
                          .nets = options->nets},
                .console = {.kind = CONSOLE_STDIO},
            },
    };
    for (int at = 0; at < argc;) {
        int result = parse_one(options, seen, argc, argv, &at, err);
        if (result)
            return result;
    }
    config_add_defaults(&options->vm);
    return check_together(options, err);
}

/* ---- help ---- */

#define HELP_COLUMN 29

void options_print_entry(FILE *out, const char *usage, const char *what)
{
    int column = fprintf(out, "  %s ", usage);
    for (const char *line = what; line;) {
        const char *end = strchr(line, '\n');
        int length = end ? (int)(end - line) : (int)strlen(line);
        if (column > HELP_COLUMN) {
            fputc('\n', out);
            column = 0;
        }
        fprintf(out, "%*s%.*s\n", HELP_COLUMN - column, "", length, line);
        column = 0;
        line = end ? end + 1 : NULL;
    }
}

void options_print_help(FILE *out)
{
    char usage[80];

    fputs("Options:\n", out);
    for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
        if (!table[i].help)
            continue;
        snprintf(usage, sizeof(usage), "--%s %s", table[i].name,
                 table[i].value ? table[i].value : "");
        options_print_entry(out, usage, table[i].help);
    }
    fputs("\nDevices for --device:\n", out);
    const char *name, *what;
    for (unsigned i = 0; config_device_help(i, &name, &what); i++)
        options_print_entry(out, name, what);
}
