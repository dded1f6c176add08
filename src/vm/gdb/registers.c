/*
 * GDB's registers; see registers.h. What a write could turn into a state that no processor can be
 * in (segments, control registers) is read-only.
 */
#include "vm/gdb/registers.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "x86/arch.h"

/* The legacy region of the XSAVE area, the header and the AVX component (Intel SDM volume 1,
 * 10.5.1, 13.4). */
enum {
    XSAVE_FCW = 0,
    XSAVE_FSW = 2,
    XSAVE_FTW = 4,
    XSAVE_FOP = 6,
    XSAVE_FIP = 8,
    XSAVE_FDP = 16,
    XSAVE_MXCSR = 24,
    XSAVE_ST = 32,
    XSAVE_XMM = 160,
    XSAVE_BV = 512,
    XSAVE_YMM_HIGH = 576,
    VECTOR_BYTES = 16,
    ST_BYTES = 10,
    MXCSR_BITS = 0xffff,
};

#define WRITABLE_FLAGS                                                                             \
    (X86_FLAG_CF | X86_FLAG_PF | X86_FLAG_AF | X86_FLAG_ZF | X86_FLAG_SF | X86_FLAG_TF |           \
     X86_FLAG_IF | X86_FLAG_DF | X86_FLAG_OF | X86_FLAG_IOPL | X86_FLAG_NT | X86_FLAG_AC |         \
     X86_FLAG_ID)

enum feature { CORE, SSE, AVX, SEGMENTS, SYSTEM, FEATURE_COUNT };

static const char *const feature_names[FEATURE_COUNT] = {
    [CORE] = "org.gnu.gdb.i386.core", [SSE] = "org.gnu.gdb.i386.sse",
    [AVX] = "org.gnu.gdb.i386.avx",   [SEGMENTS] = "org.gnu.gdb.i386.segments",
    [SYSTEM] = "sill.x86.system",
};

enum source {
    GENERAL,
    INSTRUCTION_POINTER,
    FLAGS,
    SELECTOR,
    STACK_X87,
    X87_CONTROL, /* index: enum x87_control */
    XMM,
    MXCSR,
    YMM_HIGH,
    BASE,
    KERNEL_GS_BASE,
    CONTROL, /* index: of the register */
    EFER,
    XCR0,
    DEBUG, /* index: of the register */
    TABLE, /* index: enum table_part */
};

enum x87_control { FCTRL, FSTAT, FTAG, FISEG, FIOFF, FOSEG, FOOFF, FOP };
enum table_part {
    GDT_BASE,
    GDT_LIMIT,
    IDT_BASE,
    IDT_LIMIT,
    LDT_SELECTOR,
    LDT_ROOT,
    TASK,
    TASK_ROOT
};

/* Registers in a row that differ by an index alone. */
struct gdb_register_class {
    enum feature feature;
    enum source source;
    uint8_t bits;
    const char *type;
    const char *group;        /* NULL: GDB's choice by the type */
    const char *const *names; /* one for each, up to NULL */
    const uint8_t *indices;   /* of each; NULL: 0, 1, ... */
};

#define NAMES(...) ((const char *const[]){__VA_ARGS__, NULL})
#define INDICES(...) ((const uint8_t[]){__VA_ARGS__})

static const uint8_t gpr_order[] = {X86_RAX, X86_RBX, X86_RCX, X86_RDX, X86_RSI, X86_RDI};
static const uint8_t selector_order[] = {X86_CS, X86_SS, X86_DS, X86_ES, X86_FS, X86_GS};

#define SELECTORS                                                                                  \
    {                                                                                              \
        CORE, SELECTOR, 32, "int32", NULL, NAMES("cs", "ss", "ds", "es", "fs", "gs"),              \
            selector_order                                                                         \
    }
#define X87                                                                                        \
    {CORE,       STACK_X87, 80,                                                                    \
     "i387_ext", NULL,      NAMES("st0", "st1", "st2", "st3", "st4", "st5", "st6", "st7"),         \
     NULL},                                                                                        \
    {                                                                                              \
        CORE, X87_CONTROL, 32, "int", "float",                                                     \
            NAMES("fctrl", "fstat", "ftag", "fiseg", "fioff", "foseg", "fooff", "fop"), NULL       \
    }

static const struct gdb_register_class classes64[] = {
    {CORE, GENERAL, 64, "int64", NULL, NAMES("rax", "rbx", "rcx", "rdx", "rsi", "rdi"), gpr_order},
    {CORE, GENERAL, 64, "data_ptr", NULL, NAMES("rbp", "rsp"), INDICES(X86_RBP, X86_RSP)},
    {CORE, GENERAL, 64, "int64", NULL, NAMES("r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15"),
     INDICES(8, 9, 10, 11, 12, 13, 14, 15)},
    {CORE, INSTRUCTION_POINTER, 64, "code_ptr", NULL, NAMES("rip"), NULL},
    {CORE, FLAGS, 32, "i386_eflags", NULL, NAMES("eflags"), NULL},
    SELECTORS,
    X87,
    {SSE, XMM, 128, "vec128", NULL,
     NAMES("xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10",
           "xmm11", "xmm12", "xmm13", "xmm14", "xmm15"),
     NULL},
    {SSE, MXCSR, 32, "i386_mxcsr", "vector", NAMES("mxcsr"), NULL},
    {AVX, YMM_HIGH, 128, "uint128", NULL,
     NAMES("ymm0h", "ymm1h", "ymm2h", "ymm3h", "ymm4h", "ymm5h", "ymm6h", "ymm7h", "ymm8h", "ymm9h",
           "ymm10h", "ymm11h", "ymm12h", "ymm13h", "ymm14h", "ymm15h"),
     NULL},
    {SEGMENTS, BASE, 64, "int", NULL, NAMES("fs_base", "gs_base"), INDICES(X86_FS, X86_GS)},
    {SYSTEM, KERNEL_GS_BASE, 64, "uint64", NULL, NAMES("k_gs_base"), NULL},
    {SYSTEM, BASE, 64, "uint64", NULL, NAMES("es_base", "cs_base", "ss_base", "ds_base"), NULL},
};

static const struct gdb_register_class classes32[] = {
    {CORE, GENERAL, 32, "int32", NULL, NAMES("eax", "ecx", "edx", "ebx"), NULL},
    {CORE, GENERAL, 32, "data_ptr", NULL, NAMES("esp", "ebp"), INDICES(X86_RSP, X86_RBP)},
    {CORE, GENERAL, 32, "int32", NULL, NAMES("esi", "edi"), INDICES(X86_RSI, X86_RDI)},
    {CORE, INSTRUCTION_POINTER, 32, "code_ptr", NULL, NAMES("eip"), NULL},
    {CORE, FLAGS, 32, "i386_eflags", NULL, NAMES("eflags"), NULL},
    SELECTORS,
    X87,
    {SSE, XMM, 128, "vec128", NULL,
     NAMES("xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7"), NULL},
    {SSE, MXCSR, 32, "i386_mxcsr", "vector", NAMES("mxcsr"), NULL},
    {AVX, YMM_HIGH, 128, "uint128", NULL,
     NAMES("ymm0h", "ymm1h", "ymm2h", "ymm3h", "ymm4h", "ymm5h", "ymm6h", "ymm7h"), NULL},
    {SYSTEM, BASE, 64, "uint64", NULL,
     NAMES("es_base", "cs_base", "ss_base", "ds_base", "fs_base", "gs_base"), NULL},
};

static const struct gdb_register_class classes_both[] = {
    {SYSTEM, CONTROL, 64, "uint64", NULL, NAMES("cr0", "cr2", "cr3", "cr4", "cr8"),
     INDICES(0, 2, 3, 4, 8)},
    {SYSTEM, EFER, 64, "uint64", NULL, NAMES("efer"), NULL},
    {SYSTEM, XCR0, 64, "uint64", NULL, NAMES("xcr0"), NULL},
    {SYSTEM, DEBUG, 64, "uint64", NULL, NAMES("dr0", "dr1", "dr2", "dr3", "dr6", "dr7"),
     INDICES(0, 1, 2, 3, 6, 7)},
    {SYSTEM, TABLE, 64, "uint64", NULL,
     NAMES("gdt_base", "gdt_limit", "idt_base", "idt_limit", "ldt", "ldt_base", "tr", "tr_base"),
     NULL},
};

/* ---- the description ---- */

static const char types_core[] =
    "<flags id=\"i386_eflags\" size=\"4\">"
    "<field name=\"CF\" start=\"0\" end=\"0\"/><field name=\"\" start=\"1\" end=\"1\"/>"
    "<field name=\"PF\" start=\"2\" end=\"2\"/><field name=\"AF\" start=\"4\" end=\"4\"/>"
    "<field name=\"ZF\" start=\"6\" end=\"6\"/><field name=\"SF\" start=\"7\" end=\"7\"/>"
    "<field name=\"TF\" start=\"8\" end=\"8\"/><field name=\"IF\" start=\"9\" end=\"9\"/>"
    "<field name=\"DF\" start=\"10\" end=\"10\"/><field name=\"OF\" start=\"11\" end=\"11\"/>"
    "<field name=\"NT\" start=\"14\" end=\"14\"/><field name=\"RF\" start=\"16\" end=\"16\"/>"
    "<field name=\"VM\" start=\"17\" end=\"17\"/><field name=\"AC\" start=\"18\" end=\"18\"/>"
    "<field name=\"VIF\" start=\"19\" end=\"19\"/><field name=\"VIP\" start=\"20\" end=\"20\"/>"
    "<field name=\"ID\" start=\"21\" end=\"21\"/></flags>";

static const char types_sse[] =
    "<vector id=\"v4f\" type=\"ieee_single\" count=\"4\"/>"
    "<vector id=\"v2d\" type=\"ieee_double\" count=\"2\"/>"
    "<vector id=\"v16i8\" type=\"int8\" count=\"16\"/>"
    "<vector id=\"v8i16\" type=\"int16\" count=\"8\"/>"
    "<vector id=\"v4i32\" type=\"int32\" count=\"4\"/>"
    "<vector id=\"v2i64\" type=\"int64\" count=\"2\"/>"
    "<union id=\"vec128\">"
    "<field name=\"v4_float\" type=\"v4f\"/><field name=\"v2_double\" type=\"v2d\"/>"
    "<field name=\"v16_int8\" type=\"v16i8\"/><field name=\"v8_int16\" type=\"v8i16\"/>"
    "<field name=\"v4_int32\" type=\"v4i32\"/><field name=\"v2_int64\" type=\"v2i64\"/>"
    "<field name=\"uint128\" type=\"uint128\"/></union>"
    "<flags id=\"i386_mxcsr\" size=\"4\">"
    "<field name=\"IE\" start=\"0\" end=\"0\"/><field name=\"DE\" start=\"1\" end=\"1\"/>"
    "<field name=\"ZE\" start=\"2\" end=\"2\"/><field name=\"OE\" start=\"3\" end=\"3\"/>"
    "<field name=\"UE\" start=\"4\" end=\"4\"/><field name=\"PE\" start=\"5\" end=\"5\"/>"
    "<field name=\"DAZ\" start=\"6\" end=\"6\"/><field name=\"IM\" start=\"7\" end=\"7\"/>"
    "<field name=\"DM\" start=\"8\" end=\"8\"/><field name=\"ZM\" start=\"9\" end=\"9\"/>"
    "<field name=\"OM\" start=\"10\" end=\"10\"/><field name=\"UM\" start=\"11\" end=\"11\"/>"
    "<field name=\"PM\" start=\"12\" end=\"12\"/><field name=\"FZ\" start=\"15\" "
    "end=\"15\"/></flags>";

static void add_text(struct gdb_registers *r, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* The text depends on nothing but the tables above, so it fits or the tests see that it does not.
 */
static void add_text(struct gdb_registers *r, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    int length =
        vsnprintf(r->xml + r->xml_length, sizeof(r->xml) - r->xml_length, format, arguments);
    va_end(arguments);
    r->xml_length += (size_t)length;
    if (r->xml_length >= sizeof(r->xml))
        r->xml_length = sizeof(r->xml) - 1;
}

static void add_classes(struct gdb_registers *r, enum feature feature,
                        const struct gdb_register_class *class, size_t count)
{
    for (; count; count--, class ++) {
        if (class->feature != feature)
            continue;
        for (uint8_t i = 0; class->names[i] && r->count < GDB_MAX_REGISTERS; i++) {
            r->reg[r->count] = (struct gdb_register){
                .class = class, .index = class->indices ? class->indices[i] : i};
            add_text(r, "<reg name=\"%s\" bitsize=\"%u\" type=\"%s\" regnum=\"%u\"",
                     class->names[i], class->bits, class->type, r->count);
            if (class->group)
                add_text(r, " group=\"%s\"", class->group);
            add_text(r, "/>\n");
            r->count++;
        }
    }
}

void gdb_registers_init(struct gdb_registers *r, bool long_mode)
{
    r->count = 0;
    r->xml_length = 0;
    add_text(r,
             "<?xml version=\"1.0\"?>\n<!DOCTYPE target SYSTEM \"gdb-target.dtd\">\n"
             "<target version=\"1.0\">\n<architecture>%s</architecture>\n",
             long_mode ? "i386:x86-64" : "i386");
    for (enum feature feature = 0; feature < FEATURE_COUNT; feature++) {
        if (feature == SEGMENTS && !long_mode)
            continue;
        add_text(r, "<feature name=\"%s\">\n", feature_names[feature]);
        if (feature == CORE)
            add_text(r, "%s\n", types_core);
        if (feature == SSE)
            add_text(r, "%s\n", types_sse);
        if (long_mode)
            add_classes(r, feature, classes64, ARRAY_SIZE(classes64));
        else
            add_classes(r, feature, classes32, ARRAY_SIZE(classes32));
        add_classes(r, feature, classes_both, ARRAY_SIZE(classes_both));
        add_text(r, "</feature>\n");
    }
    add_text(r, "</target>\n");
}

unsigned gdb_register_size(const struct gdb_register *reg)
{
    return reg->class->bits / 8;
}

/* ---- reading ---- */

static uint64_t load(const uint8_t *from, unsigned size)
{
    uint64_t value = 0;
    memcpy(&value, from, size);
    return value;
}

/* Which bit of XSTATE_BV says that the register is not in its initial state; -1: none does. */
static int component_of(const struct gdb_register *reg)
{
    switch (reg->class->source) {
    case STACK_X87:
    case X87_CONTROL:
        return 0;
    case XMM:
        return 1;
    case YMM_HIGH:
        return 2;
    default:
        return -1;
    }
}

/* The tag word (Intel SDM volume 1, 8.1.7) from the abridged one, which knows only what is empty.
 */
static uint16_t full_tags(const uint8_t *xsave)
{
    enum { VALID, ZERO, SPECIAL, EMPTY };
    unsigned top = (unsigned)load(xsave + XSAVE_FSW, 2) >> 11 & 7;
    uint16_t tags = 0;

    for (unsigned i = 0; i < 8; i++) {
        const uint8_t *st = xsave + XSAVE_ST + ((i - top) & 7) * VECTOR_BYTES;
        uint64_t mantissa = load(st, 8);
        unsigned exponent = (unsigned)load(st + 8, 2) & 0x7fff, tag = VALID;

        if (!(xsave[XSAVE_FTW] >> i & 1))
            tag = EMPTY;
        else if (exponent == 0 && mantissa == 0)
            tag = ZERO;
        else if (exponent == 0 || exponent == 0x7fff || !(mantissa >> 63))
            tag = SPECIAL;
        tags |= (uint16_t)(tag << 2 * i);
    }
    return tags;
}

static uint64_t x87_control(const uint8_t *xsave, enum x87_control which)
{
    switch (which) {
    case FCTRL:
        return load(xsave + XSAVE_FCW, 2);
    case FSTAT:
        return load(xsave + XSAVE_FSW, 2);
    case FTAG:
        return full_tags(xsave);
    case FISEG:
        return load(xsave + XSAVE_FIP + 4, 2);
    case FIOFF:
        return load(xsave + XSAVE_FIP, 4);
    case FOSEG:
        return load(xsave + XSAVE_FDP + 4, 2);
    case FOOFF:
        return load(xsave + XSAVE_FDP, 4);
    case FOP:
        return load(xsave + XSAVE_FOP, 2);
    }
    return 0;
}

static uint64_t control_register(const struct x86_vcpu_state *state, unsigned index)
{
    switch (index) {
    case 0:
        return state->cr0;
    case 2:
        return state->cr2;
    case 3:
        return state->cr3;
    case 4:
        return state->cr4;
    default:
        return state->cr8;
    }
}

static uint64_t table_part(const struct x86_vcpu_state *state, enum table_part part)
{
    switch (part) {
    case GDT_BASE:
        return state->gdtr.base;
    case GDT_LIMIT:
        return state->gdtr.limit;
    case IDT_BASE:
        return state->idtr.base;
    case IDT_LIMIT:
        return state->idtr.limit;
    case LDT_SELECTOR:
        return state->ldtr.selector;
    case LDT_ROOT:
        return state->ldtr.base;
    case TASK:
        return state->tr.selector;
    case TASK_ROOT:
        return state->tr.base;
    }
    return 0;
}

/* A register of up to 64 bits. */
static uint64_t get_number(const struct gdb_register *reg, const struct x86_vcpu_state *state)
{
    switch (reg->class->source) {
    case GENERAL:
        return state->gpr[reg->index];
    case INSTRUCTION_POINTER:
        return state->rip;
    case FLAGS:
        return state->rflags;
    case SELECTOR:
        return state->segment[reg->index].selector;
    case X87_CONTROL:
        return x87_control(state->xsave, reg->index);
    case MXCSR:
        return load(state->xsave + XSAVE_MXCSR, 4);
    case BASE:
        return state->segment[reg->index].base;
    case KERNEL_GS_BASE:
        return state->msr.kernel_gs_base;
    case CONTROL:
        return control_register(state, reg->index);
    case EFER:
        return state->efer;
    case XCR0:
        return state->xcr0;
    case DEBUG:
        return reg->index == 6 ? state->dr6 : reg->index == 7 ? state->dr7 : state->dr[reg->index];
    case TABLE:
        return table_part(state, reg->index);
    default:
        return 0;
    }
}

/* Where in the XSAVE area a register lies whole; NULL: it does not. */
static uint8_t *vector_place(const struct gdb_register *reg, uint8_t *xsave)
{
    switch (reg->class->source) {
    case STACK_X87:
        return xsave + XSAVE_ST + reg->index * VECTOR_BYTES;
    case XMM:
        return xsave + XSAVE_XMM + reg->index * VECTOR_BYTES;
    case YMM_HIGH:
        return xsave + XSAVE_YMM_HIGH + reg->index * VECTOR_BYTES;
    default:
        return NULL;
    }
}

/* Makes a component that the area leaves out, because it is in its initial state, explicit. */
static void make_explicit(uint8_t *xsave, unsigned component)
{
    static const struct {
        uint16_t start, length;
    } ranges[] = {{0, XSAVE_MXCSR}, {XSAVE_XMM, 256}, {XSAVE_YMM_HIGH, 256}};

    if (xsave[XSAVE_BV] >> component & 1)
        return;
    memset(xsave + ranges[component].start, 0, ranges[component].length);
    if (component == 0) {
        const uint16_t fcw = X86_FCW_FNINIT;
        memcpy(xsave + XSAVE_FCW, &fcw, sizeof(fcw));
        memset(xsave + XSAVE_ST, 0, XSAVE_XMM - XSAVE_ST);
    }
    xsave[XSAVE_BV] |= (uint8_t)(1u << component);
}

void gdb_register_get(const struct gdb_register *reg, const struct x86_vcpu_state *state,
                      uint8_t bytes[GDB_REGISTER_BYTES])
{
    struct x86_vcpu_state copy;
    int component = component_of(reg);

    if (component >= 0 && !(state->xsave[XSAVE_BV] >> component & 1)) {
        memcpy(copy.xsave, state->xsave, sizeof(copy.xsave));
        make_explicit(copy.xsave, (unsigned)component);
        state = &copy;
    }
    /* The place is only read. */
    const uint8_t *place = vector_place(reg, (uint8_t *)state->xsave);
    uint64_t number = place ? 0 : get_number(reg, state);
    memset(bytes, 0, GDB_REGISTER_BYTES);
    if (place)
        memcpy(bytes, place, gdb_register_size(reg));
    else
        memcpy(bytes, &number, gdb_register_size(reg));
}

/* ---- writing ---- */

static bool is_canonical(uint64_t address)
{
    return (uint64_t)((int64_t)(address << 7) >> 7) == address; /* 57 bits at most */
}

static void set_x87_control(uint8_t *xsave, enum x87_control which, uint64_t value)
{
    uint8_t abridged = 0;

    switch (which) {
    case FCTRL:
        memcpy(xsave + XSAVE_FCW, &value, 2);
        break;
    case FSTAT:
        memcpy(xsave + XSAVE_FSW, &value, 2);
        break;
    case FTAG:
        for (unsigned i = 0; i < 8; i++)
            abridged |= (uint8_t)(((value >> 2 * i & 3) != 3) << i);
        xsave[XSAVE_FTW] = abridged;
        break;
    case FISEG:
        memcpy(xsave + XSAVE_FIP + 4, &value, 2);
        break;
    case FIOFF:
        memcpy(xsave + XSAVE_FIP, &value, 4);
        break;
    case FOSEG:
        memcpy(xsave + XSAVE_FDP + 4, &value, 2);
        break;
    case FOOFF:
        memcpy(xsave + XSAVE_FDP, &value, 4);
        break;
    case FOP:
        memcpy(xsave + XSAVE_FOP, &value, 2);
        break;
    }
}

unsigned gdb_register_set(const struct gdb_register *reg, struct x86_vcpu_state *state,
                          const uint8_t bytes[GDB_REGISTER_BYTES])
{
    unsigned size = gdb_register_size(reg);
    uint64_t number = load(bytes, size > 8 ? 8 : size);
    int component = component_of(reg);

    if (component >= 0)
        make_explicit(state->xsave, (unsigned)component);
    switch (reg->class->source) {
    case GENERAL:
        state->gpr[reg->index] = number;
        return X86_STATE_GPR;
    case INSTRUCTION_POINTER:
        if (!is_canonical(number))
            return 0;
        state->rip = number;
        return X86_STATE_GPR;
    case FLAGS:
        state->rflags = (state->rflags & ~WRITABLE_FLAGS) | (number & WRITABLE_FLAGS);
        return X86_STATE_GPR;
    case STACK_X87:
    case XMM:
    case YMM_HIGH:
        memcpy(vector_place(reg, state->xsave), bytes, size);
        return X86_STATE_FPU;
    case X87_CONTROL:
        set_x87_control(state->xsave, reg->index, number);
        return X86_STATE_FPU;
    case MXCSR:
        number &= MXCSR_BITS;
        memcpy(state->xsave + XSAVE_MXCSR, &number, 4);
        return X86_STATE_FPU;
    case BASE:
        if (reg->class->feature != SEGMENTS || !is_canonical(number))
            return 0;
        state->segment[reg->index].base = number;
        return X86_STATE_SYSTEM;
    default:
        return 0;
    }
}
