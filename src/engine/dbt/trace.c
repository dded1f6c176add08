/* Looking inside the software engine; see trace.h. On the vCPUs' threads; init and done on the
 * control thread. */
#include "engine/dbt/trace.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/dbt/dispatch.h"
#include "engine/dbt/stats.h"

/* ---- the list ---- */

static const struct {
    const char *name;
    unsigned bit;
} kinds[] = {
    {"blocks", TRACE_BLOCKS},         {"exits", TRACE_EXITS},       {"dispatch", TRACE_DISPATCH},
    {"exceptions", TRACE_EXCEPTIONS}, {"counters", TRACE_COUNTERS}, {"perfmap", TRACE_PERFMAP},
};

static int parse(unsigned *bits, const char *list, struct error *err)
{
    for (const char *word = list; word;) {
        size_t length = strcspn(word, ",");
        unsigned bit = 0;

        for (size_t i = 0; i < ARRAY_SIZE(kinds); i++)
            if (strlen(kinds[i].name) == length && !strncmp(kinds[i].name, word, length))
                bit = kinds[i].bit;
        if (!bit)
            return error_set(err, -EINVAL,
                             "the engine dbt cannot report '%.*s': use blocks, exits, dispatch, "
                             "exceptions, counters or perfmap",
                             (int)length, word);
        *bits |= bit;
        word = word[length] ? word + length + 1 : NULL;
    }
    return 0;
}

/* ---- the map for perf ---- */

static int open_perf_map(struct dbt_vm *vm, struct error *err)
{
    char path[64];

    snprintf(path, sizeof(path), "/tmp/perf-%d.map", getpid());
    /* A file of our own: another user may have put something under a name that all can foresee. */
    unlink(path);
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    vm->perf_map = fd < 0 ? NULL : fdopen(fd, "w");
    if (!vm->perf_map)
        return error_set(err, -errno, "cannot write the map for perf to '%s': %s", path,
                         strerror(errno));
    setvbuf(vm->perf_map, NULL, _IOLBF, 0);
    fprintf(vm->perf_map, "%" PRIxPTR " %x sill dbt stubs\n", (uintptr_t)vm->cache.rx,
            vm->cache.stubs_end);
    return 0;
}

static void map_block(struct dbt_vm *vm, const struct dbt_block *block, gva_t linear)
{
    fprintf(vm->perf_map, "%" PRIxPTR " %x guest 0x%" PRIx64 " cpl%u\n",
            (uintptr_t)(vm->cache.rx + block->start), block->end - block->start, linear,
            block->mode & DBT_MODE_CPL_MASK);
}

/* What was there is no more; perf goes by the end of a run. */
void trace_flush(struct dbt_vm *vm)
{
    if (vm->trace & TRACE_BLOCKS)
        fprintf(stderr, "flush: the code cache is empty\n");
    if (vm->perf_map && ftruncate(fileno(vm->perf_map), 0) == 0)
        rewind(vm->perf_map);
}

/* ---- life ---- */

int trace_init(struct dbt_vm *vm, const char *list, struct error *err)
{
    int result = parse(&vm->trace, list, err);

    if (!result && vm->trace & TRACE_PERFMAP)
        result = open_perf_map(vm, err);
    return result;
}

struct text_stats {
    char prefix[128];
};

static void text_begin(void *opaque, const char *name)
{
    char *prefix = ((struct text_stats *)opaque)->prefix;
    size_t length = strlen(prefix);

    snprintf(prefix + length, sizeof(((struct text_stats *)0)->prefix) - length, "%s.", name);
}

static void text_value(void *opaque, const char *name, uint64_t value)
{
    if (value)
        fprintf(stderr, "%s%s %" PRIu64 "\n", ((struct text_stats *)opaque)->prefix, name, value);
}

static void text_end(void *opaque)
{
    char *prefix = ((struct text_stats *)opaque)->prefix;
    size_t length = strlen(prefix);

    do
        prefix[--length] = '\0';
    while (length && prefix[length - 1] != '.');
}

void trace_counters(const struct dbt_vm *vm, const struct dbt_vcpu *v)
{
    struct text_stats text = {""};
    const struct stats to = {&text, text_begin, text_value, text_end};

    if (v)
        stats_tell_vcpu(v, &to);
    else
        stats_tell_cache(&vm->cache, &to);
}

void trace_done(struct dbt_vm *vm)
{
    if (vm->trace & TRACE_COUNTERS)
        trace_counters(vm, NULL);
    if (vm->perf_map)
        fclose(vm->perf_map);
}

/* ---- blocks ---- */

static void disassemble(const char *label, ZydisMachineMode mode, ZydisStackWidth stack,
                        const uint8_t *bytes, unsigned length, uint64_t address)
{
    ZydisDecoder decoder;
    ZydisFormatter formatter;
    unsigned offset = 0;

    ZydisDecoderInit(&decoder, mode, stack);
    ZydisFormatterInit(&formatter, ZYDIS_FORMATTER_STYLE_INTEL);
    while (offset < length) {
        ZydisDecodedInstruction insn;
        ZydisDecodedOperand operands[ZYDIS_MAX_OPERAND_COUNT];
        char text[128];

        if (!ZYAN_SUCCESS(ZydisDecoderDecodeFull(&decoder, bytes + offset, length - offset, &insn,
                                                 operands))) {
            fprintf(stderr, "%s %#" PRIx64 ": (%02x)\n", label, address + offset, bytes[offset]);
            offset++;
            continue;
        }
        ZydisFormatterFormatInstruction(&formatter, &insn, operands, insn.operand_count_visible,
                                        text, sizeof(text), address + offset, NULL);
        fprintf(stderr, "%s %#" PRIx64 ": %s\n", label, address + offset, text);
        offset += insn.length;
    }
}

static const char *end_reason(const struct dbt_block *block)
{
    uint32_t end = (uint32_t)(block->gpa & (GUEST_PAGE_SIZE - 1)) + block->length;

    switch ((enum block_end)block->why_end) {
    case END_BRANCH:
        return "its last instruction may go elsewhere";
    case END_NEXT:
        if (block->mode & (DBT_MODE_TF | DBT_MODE_DEBUG | DBT_MODE_ONE))
            return "one instruction at a time";
        return end == GUEST_PAGE_SIZE ? "the page ends" : "it is long enough";
    case END_CROSSING:
        return "the next instruction lies on two pages";
    case END_INVALID:
        return "what follows is no instruction";
    case END_TOO_LONG:
        return "what follows is longer than an instruction can be";
    case END_SLOW:
        return "its last instruction needs the slow path";
    }
    return "";
}

void trace_block(struct dbt_vcpu *v, const struct dbt_block *block, const uint8_t *guest)
{
    bool code64 = block->mode & DBT_MODE_CODE64, code32 = block->mode & DBT_MODE_CODE32;

    if (v->vm->perf_map)
        map_block(v->vm, block, dbt_linear_of(v, v->rip));
    if (!(v->vm->trace & TRACE_BLOCKS))
        return;
    fprintf(stderr, "block %#" PRIx64 " (physical) mode %#x: %u bytes, %u instructions; ends: %s\n",
            block->gpa, block->mode, block->length, block->insn_count, end_reason(block));
    disassemble("  guest",
                code64   ? ZYDIS_MACHINE_MODE_LONG_64
                : code32 ? ZYDIS_MACHINE_MODE_LEGACY_32
                         : ZYDIS_MACHINE_MODE_LEGACY_16,
                code64   ? ZYDIS_STACK_WIDTH_64
                : code32 ? ZYDIS_STACK_WIDTH_32
                         : ZYDIS_STACK_WIDTH_16,
                guest, block->length, v->rip);
    disassemble("  host", ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64,
                v->vm->cache.rx + block->start, block->end - block->start, block->start);
}

void trace_crossing(struct dbt_vcpu *v, const struct dbt_block *block, const uint8_t *first,
                    const uint8_t *second)
{
    uint8_t bytes[ZYDIS_MAX_INSTRUCTION_LENGTH];
    unsigned on_first = block->length - block->second_end;

    memcpy(bytes, first, on_first);
    memcpy(bytes + on_first, second, block->second_end);
    trace_block(v, block, bytes);
}

/* ---- running ---- */

const char *trace_exit_name(enum exit_kind kind)
{
    static const char *const names[EXIT_KINDS] = {
        [EXIT_LOOKUP] = "lookup",       [EXIT_AT] = "at",       [EXIT_DEAD] = "dead",
        [EXIT_CHAIN] = "chain",         [EXIT_UNPIN] = "unpin", [EXIT_INSN] = "instruction",
        [EXIT_CROSS] = "cross",         [EXIT_SLOW] = "slow",   [EXIT_FPU] = "unit_off",
        [EXIT_UNDEFINED] = "undefined", [EXIT_FETCH] = "fetch", [EXIT_YIELD] = "yield",
        [EXIT_THUNK] = "thunk",
    };

    return names[kind] ? names[kind] : "other";
}

void trace_exit(struct dbt_vcpu *v)
{
    const struct exit_record *record =
        (const struct exit_record *)(v->vm->cache.meta + v->insn_info);
    uint64_t rip = v->rip;

    dbt_simd_unload(v);
    if (v->runtime->leave != LEAVE_RECORD) {
        fprintf(stderr, "vcpu %u exit %s at rip %#" PRIx64 "\n", v->index,
                v->runtime->leave == LEAVE_FAULT ? "fault" : "memory", rip);
        return;
    }
    rip = dbt_rip_of(v, record->kind == EXIT_LOOKUP
                            ? v->scratch[0]
                            : v->page_base + (uint64_t)(int64_t)record->offset);
    fprintf(stderr, "vcpu %u exit %s at rip %#" PRIx64 "%s%s\n", v->index,
            trace_exit_name(record->kind), rip, record->insn ? ": " : "",
            record->insn ? ZydisMnemonicGetString((ZydisMnemonic)record->insn->mnemonic) : "");
}

void trace_dispatch(struct dbt_vcpu *v)
{
    static const char *const names[X86_GPR_COUNT] = {"rax", "rcx", "rdx", "rbx", "rsp", "rbp",
                                                     "rsi", "rdi", "r8",  "r9",  "r10", "r11",
                                                     "r12", "r13", "r14", "r15"};

    dbt_simd_unload(v);
    flockfile(stderr);
    fprintf(stderr, "vcpu %u rip %#" PRIx64 " mode %#x rflags %#" PRIx64, v->index, v->rip, v->mode,
            dbt_rflags_get(v));
    for (unsigned i = 0; i < X86_GPR_COUNT; i++)
        fprintf(stderr, " %s %#" PRIx64, names[i], v->gpr[i]);
    fputc('\n', stderr);
    funlockfile(stderr);
}

void trace_exception(struct dbt_vcpu *v)
{
    dbt_simd_unload(v);
    fprintf(stderr,
            "vcpu %u exception %u error %#x address %#" PRIx64 " at rip %#" PRIx64 " cpl %u\n",
            v->index, v->exception.vector, v->exception.error, v->exception.address, v->rip,
            dbt_cpl(v));
}
