/*
 * Registers, memory and queries of a session; see session.h. Memory is what the thread's paging
 * structures map, RAM and ROM alone: device registers are not touched, since reading them may have
 * effects.
 */
#include <stdio.h>
#include <string.h>

#include "vm/gdb/commands.h"
#include "x86/arch.h"
#include "x86/paging.h"

#define LOADED_STATE                                                                               \
    (X86_STATE_GPR | X86_STATE_SYSTEM | X86_STATE_FPU | X86_STATE_DEBUG | X86_STATE_MSR |          \
     X86_STATE_EVENTS)

static struct engine_vcpu *vcpu_of(const struct gdb_session *s, unsigned index)
{
    return s->target->vcpu(s->target->opaque, index);
}

bool gdb_load(struct gdb_session *s)
{
    if (!s->loaded)
        s->loaded = s->target->engine->get_state(vcpu_of(s, s->thread), &s->cpu, LOADED_STATE) == 0;
    return s->loaded;
}

void gdb_describe_registers(struct gdb_session *s)
{
    bool long_mode = s->arch == GDB_ARCH_X86_64;

    for (unsigned i = 0; i < s->target->cpus && s->arch == GDB_ARCH_AUTO; i++) {
        s->thread = i;
        s->loaded = false;
        long_mode |= gdb_load(s) && (s->cpu.efer & X86_EFER_LMA);
    }
    s->thread = 0;
    s->loaded = false;
    gdb_registers_init(&s->registers, long_mode);
}

/* ---- registers ---- */

static void read_all_registers(struct gdb_session *s)
{
    uint8_t bytes[GDB_REGISTER_BYTES];

    for (unsigned i = 0; i < s->registers.count; i++) {
        const struct gdb_register *reg = &s->registers.reg[i];

        gdb_register_get(reg, &s->cpu, bytes);
        gdb_put_hex(gdb_reply(s), bytes, gdb_register_size(reg));
    }
}

/* What is read-only stays as it is. */
static void write_all_registers(struct gdb_session *s, const char *at)
{
    uint8_t bytes[GDB_REGISTER_BYTES];
    unsigned groups = 0;

    for (unsigned i = 0; i < s->registers.count; i++) {
        const struct gdb_register *reg = &s->registers.reg[i];

        if (!gdb_take_bytes(&at, bytes, gdb_register_size(reg)))
            break;
        groups |= gdb_register_set(reg, &s->cpu, bytes);
    }
    if (s->target->engine->set_state(vcpu_of(s, s->thread), &s->cpu, groups))
        gdb_reply_error(s, GDB_ERROR_REFUSED);
    else
        gdb_put(gdb_reply(s), "OK");
    s->loaded = false;
}

static void read_register(struct gdb_session *s, const char *at)
{
    uint8_t bytes[GDB_REGISTER_BYTES];
    uint64_t number;

    if (!gdb_take_number(&at, &number) || number >= s->registers.count) {
        gdb_reply_error(s, GDB_ERROR_SYNTAX);
        return;
    }
    const struct gdb_register *reg = &s->registers.reg[number];
    gdb_register_get(reg, &s->cpu, bytes);
    gdb_put_hex(gdb_reply(s), bytes, gdb_register_size(reg));
}

static void write_register(struct gdb_session *s, const char *at)
{
    uint8_t bytes[GDB_REGISTER_BYTES];
    uint64_t number;

    if (!gdb_take_number(&at, &number) || number >= s->registers.count ||
        !gdb_take_char(&at, '=') ||
        !gdb_take_bytes(&at, bytes, gdb_register_size(&s->registers.reg[number]))) {
        gdb_reply_error(s, GDB_ERROR_SYNTAX);
        return;
    }
    unsigned group = gdb_register_set(&s->registers.reg[number], &s->cpu, bytes);
    s->loaded = false;
    if (group && s->target->engine->set_state(vcpu_of(s, s->thread), &s->cpu, group) == 0)
        gdb_put(gdb_reply(s), "OK");
    else
        gdb_reply_error(s, GDB_ERROR_REFUSED);
}

/* ---- memory ---- */

/* The part of [address, address + length) in the first page, and where that is. */
static bool first_piece(struct gdb_session *s, gva_t address, size_t length, gpa_t *gpa,
                        size_t *piece)
{
    size_t in_page = GUEST_PAGE_SIZE - (address & (GUEST_PAGE_SIZE - 1));

    *piece = length < in_page ? length : in_page;
    return x86_paging_translate(&s->cpu, s->target->memory, address, gpa);
}

/* How many bytes there are. */
static size_t read_memory(struct gdb_session *s, gva_t address, uint8_t *to, size_t length)
{
    size_t done = 0, piece;
    gpa_t gpa;

    while (done < length && first_piece(s, address + done, length - done, &gpa, &piece) &&
           memory_read(s->target->memory, gpa, to + done, piece) == 0)
        done += piece;
    return done;
}

static bool write_memory(struct gdb_session *s, gva_t address, const uint8_t *from, size_t length)
{
    size_t done = 0, piece;
    gpa_t gpa;

    while (done < length) {
        if (!first_piece(s, address + done, length - done, &gpa, &piece) ||
            memory_write(s->target->memory, gpa, from + done, piece))
            return false;
        done += piece;
    }
    return true;
}

static bool take_range(const char **at, gva_t *address, uint64_t *length)
{
    return gdb_take_number(at, address) && gdb_take_char(at, ',') && gdb_take_number(at, length);
}

static void command_read_memory(struct gdb_session *s, const char *at)
{
    uint8_t bytes[GDB_PACKET_SIZE / 2];
    uint64_t length;
    gva_t address;

    if (!take_range(&at, &address, &length)) {
        gdb_reply_error(s, GDB_ERROR_SYNTAX);
        return;
    }
    if (length > sizeof(bytes))
        length = sizeof(bytes);
    size_t there = read_memory(s, address, bytes, length);
    if (length && !there)
        gdb_reply_error(s, GDB_ERROR_MEMORY);
    else
        gdb_put_hex(gdb_reply(s), bytes, there);
}

/* M has digits, X the bytes themselves. */
static void command_write_memory(struct gdb_session *s, const char *at, const char *end,
                                 bool digits)
{
    uint8_t bytes[GDB_PACKET_SIZE / 2];
    uint64_t length;
    gva_t address;
    bool given = take_range(&at, &address, &length) && gdb_take_char(&at, ':');

    if (given && digits)
        given = length <= sizeof(bytes) && gdb_take_bytes(&at, bytes, length);
    else if (given)
        given = length == (uint64_t)(end - at);
    if (!given)
        gdb_reply_error(s, GDB_ERROR_SYNTAX);
    else if (!write_memory(s, address, digits ? bytes : (const uint8_t *)at, length))
        gdb_reply_error(s, GDB_ERROR_MEMORY);
    else
        gdb_put(gdb_reply(s), "OK");
}

/* ---- threads ---- */

/* H and T: thread 0 is any, -1 all, of which the current one will do. */
static void command_thread(struct gdb_session *s, const char *at, bool choose)
{
    uint64_t number = 0;
    bool special = gdb_take_text(&at, "-1");

    if ((!special && !gdb_take_number(&at, &number)) || number > s->target->cpus) {
        gdb_reply_error(s, GDB_ERROR_SYNTAX);
        return;
    }
    if (choose && number && number - 1 != s->thread) {
        s->thread = (unsigned)number - 1;
        s->loaded = false;
    }
    gdb_put(gdb_reply(s), "OK");
}

static void list_threads(struct gdb_session *s)
{
    for (unsigned i = 0; i < s->target->cpus; i++)
        gdb_put(gdb_reply(s), "%c%x", i ? ',' : 'm', i + 1);
}

static void describe_thread(struct gdb_session *s, const char *at)
{
    static const char *const run_states[] = {[X86_RUNNABLE] = "running",
                                             [X86_HALTED] = "halted",
                                             [X86_WAIT_FOR_SIPI] = "waiting to be started"};
    struct x86_vcpu_state cpu;
    uint64_t number;
    char text[64];

    if (!gdb_take_number(&at, &number) || !number || number > s->target->cpus ||
        s->target->engine->get_state(vcpu_of(s, (unsigned)number - 1), &cpu,
                                     X86_STATE_EVENTS | X86_STATE_SYSTEM)) {
        gdb_reply_error(s, GDB_ERROR_SYNTAX);
        return;
    }
    int length =
        snprintf(text, sizeof(text), "vCPU %u, CPL %u, %s", (unsigned)number - 1,
                 cpu.cr0 & X86_CR0_PE ? X86_SEGMENT_DPL(cpu.segment[X86_SS].attributes) : 0u,
                 run_states[cpu.run_state]);
    gdb_put_hex(gdb_reply(s), text, (size_t)length);
}

/* ---- queries ---- */

static void reply_text(struct gdb_session *s, const char *text)
{
    gdb_put_hex(gdb_reply(s), text, strlen(text));
}

static void monitor_translate(struct gdb_session *s, const char *at)
{
    char text[64];
    gva_t linear;
    gpa_t gpa;

    gdb_take_text(&at, "0x");
    if (!gdb_take_number(&at, &linear) || *at) {
        reply_text(s, "translate takes one address, in hexadecimal\n");
        return;
    }
    if (x86_paging_translate(&s->cpu, s->target->memory, linear, &gpa))
        snprintf(text, sizeof(text), "0x%llx\n", (unsigned long long)gpa);
    else
        snprintf(text, sizeof(text), "not mapped\n");
    reply_text(s, text);
}

/* GDB's `monitor TEXT`, which comes in hexadecimal. */
static void command_monitor(struct gdb_session *s, const char *at)
{
    char text[256];
    size_t length = strlen(at) / 2;
    const char *word = text;

    if (length >= sizeof(text) || !gdb_take_bytes(&at, text, length)) {
        gdb_reply_error(s, GDB_ERROR_SYNTAX);
        return;
    }
    text[length] = '\0';
    if (!strcmp(text, "reset")) {
        s->target->reset(s->target->opaque);
        s->loaded = false;
        gdb_put(gdb_reply(s), "OK");
    } else if (!strcmp(text, "quit")) {
        s->target->quit(s->target->opaque);
        gdb_put(gdb_reply(s), "OK");
    } else if (gdb_take_text(&word, "translate ")) {
        monitor_translate(s, word);
    } else {
        reply_text(s, "reset               starts the guest again, held\n"
                      "quit                ends the VM\n"
                      "translate ADDRESS   where a linear address is in physical memory\n");
    }
}

static void send_description(struct gdb_session *s, const char *at)
{
    const struct gdb_registers *r = &s->registers;
    uint64_t offset, length;

    if (!gdb_take_text(&at, "target.xml:") || !take_range(&at, &offset, &length)) {
        gdb_reply_error(s, GDB_ERROR_SYNTAX);
        return;
    }
    if (offset > r->xml_length)
        offset = r->xml_length;
    if (length > GDB_PACKET_SIZE / 2 - 1) /* each byte may need an escape */
        length = GDB_PACKET_SIZE / 2 - 1;
    bool last = length >= r->xml_length - offset;
    gdb_put(gdb_reply(s), last ? "l" : "m");
    gdb_put_binary(gdb_reply(s), r->xml + offset, last ? r->xml_length - offset : length);
}

static void command_supported(struct gdb_session *s, const char *at)
{
    s->knows_swbreak = strstr(at, "swbreak+");
    s->knows_hwbreak = strstr(at, "hwbreak+");
    gdb_put(gdb_reply(s),
            "PacketSize=%x;qXfer:features:read+;QStartNoAckMode+;vContSupported+;swbreak+;hwbreak+",
            GDB_PACKET_SIZE);
}

static void command_query(struct gdb_session *s, const char *at)
{
    if (gdb_take_text(&at, "Supported"))
        command_supported(s, at);
    else if (gdb_take_text(&at, "Xfer:features:read:"))
        send_description(s, at);
    else if (!strcmp(at, "fThreadInfo"))
        list_threads(s);
    else if (!strcmp(at, "sThreadInfo"))
        gdb_put(gdb_reply(s), "l");
    else if (gdb_take_text(&at, "ThreadExtraInfo,"))
        describe_thread(s, at);
    else if (!strcmp(at, "C"))
        gdb_put(gdb_reply(s), "QC%x", s->thread + 1);
    else if (!strcmp(at, "Attached"))
        gdb_put(gdb_reply(s), "1");
    else if (gdb_take_text(&at, "Rcmd,"))
        command_monitor(s, at);
    else
        gdb_reply(s);
}

void gdb_command_inspect(struct gdb_session *s, const char *data, size_t length)
{
    const char *at = data + 1, *end = data + length;

    if (!length || !gdb_load(s)) {
        gdb_reply_error(s, GDB_ERROR_REFUSED);
        return;
    }
    switch (data[0]) {
    case 'g':
        read_all_registers(s);
        break;
    case 'G':
        write_all_registers(s, at);
        break;
    case 'p':
        read_register(s, at);
        break;
    case 'P':
        write_register(s, at);
        break;
    case 'm':
        command_read_memory(s, at);
        break;
    case 'M':
        command_write_memory(s, at, end, true);
        break;
    case 'X':
        command_write_memory(s, at, end, false);
        break;
    case 'H':
        if (gdb_take_char(&at, 'c'))
            gdb_put(gdb_reply(s), "OK"); /* vCont names its threads itself */
        else
            command_thread(s, at + (*at == 'g'), true);
        break;
    case 'T':
        command_thread(s, at, false);
        break;
    case 'q':
        command_query(s, at);
        break;
    case 'Q':
        if (!strcmp(at, "StartNoAckMode")) {
            gdb_put(gdb_reply(s), "OK");
            s->no_acks = true;
        } else {
            gdb_reply(s);
        }
        break;
    default:
        gdb_reply(s);
        break;
    }
}
