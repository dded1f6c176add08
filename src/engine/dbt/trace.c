/* Looking inside the software engine; see trace.h. On the vCPU's thread. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/dbt/trace.h"

unsigned trace_from_environment(void)
{
    static const struct {
        const char *name;
        unsigned bit;
    } kinds[] = {
        {"blocks", TRACE_BLOCKS},
        {"dispatch", TRACE_DISPATCH},
        {"exceptions", TRACE_EXCEPTIONS},
        {"counters", TRACE_COUNTERS},
    };
    const char *list = getenv("SILL_DBT_TRACE");
    unsigned bits = 0;

    for (unsigned i = 0; list && i < ARRAY_SIZE(kinds); i++)
        if (strstr(list, kinds[i].name))
            bits |= kinds[i].bit;
    return bits;
}

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
            fprintf(stderr, "%s %#llx: (%02x)\n", label, (unsigned long long)address + offset,
                    bytes[offset]);
            offset++;
            continue;
        }
        ZydisFormatterFormatInstruction(&formatter, &insn, operands, insn.operand_count_visible,
                                        text, sizeof(text), address + offset, NULL);
        fprintf(stderr, "%s %#llx: %s\n", label, (unsigned long long)address + offset, text);
        offset += insn.length;
    }
}

void trace_block(struct dbt_vcpu *v, const struct dbt_block *block, const uint8_t *guest)
{
    bool code64 = block->mode & DBT_MODE_CODE64, code32 = block->mode & DBT_MODE_CODE32;

    dbt_simd_unload(v);
    fprintf(stderr, "block %#llx (physical) mode %#x: %u bytes, %u instructions\n",
            (unsigned long long)block->gpa, block->mode, block->length, block->insn_count);
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

void trace_dispatch(struct dbt_vcpu *v)
{
    dbt_simd_unload(v);
    fprintf(stderr,
            "vcpu %u rip %#llx mode %#x rflags %#llx rax %#llx rcx %#llx rdx %#llx rbx %#llx "
            "rsp %#llx rbp %#llx rsi %#llx rdi %#llx r8 %#llx r9 %#llx r10 %#llx r11 %#llx "
            "r12 %#llx r13 %#llx r14 %#llx r15 %#llx\n",
            v->index, (unsigned long long)v->rip, v->mode, (unsigned long long)dbt_rflags_get(v),
            (unsigned long long)v->gpr[0], (unsigned long long)v->gpr[1],
            (unsigned long long)v->gpr[2], (unsigned long long)v->gpr[3],
            (unsigned long long)v->gpr[4], (unsigned long long)v->gpr[5],
            (unsigned long long)v->gpr[6], (unsigned long long)v->gpr[7],
            (unsigned long long)v->gpr[8], (unsigned long long)v->gpr[9],
            (unsigned long long)v->gpr[10], (unsigned long long)v->gpr[11],
            (unsigned long long)v->gpr[12], (unsigned long long)v->gpr[13],
            (unsigned long long)v->gpr[14], (unsigned long long)v->gpr[15]);
}

void trace_exception(struct dbt_vcpu *v)
{
    dbt_simd_unload(v);
    fprintf(stderr, "vcpu %u exception %u error %#x address %#llx at rip %#llx cpl %u\n", v->index,
            v->exception.vector, v->exception.error, (unsigned long long)v->exception.address,
            (unsigned long long)v->rip, dbt_cpl(v));
}

void trace_counters(const struct dbt_vcpu *v)
{
    const struct dbt_counters *c = &v->runtime->counters;

    fprintf(stderr,
            "vcpu %u: lookups %llu links %llu misses %llu fills %llu flushes %llu slow %llu "
            "interrupts %llu exceptions %llu; cache: %llu translations, %llu invalidations, "
            "%u bytes, %u meta, generation %u\n",
            v->index, (unsigned long long)c->lookups, (unsigned long long)c->links,
            (unsigned long long)c->memory_misses, (unsigned long long)c->memory_fills,
            (unsigned long long)c->tlb_flushes, (unsigned long long)c->slow,
            (unsigned long long)c->interrupts, (unsigned long long)c->exceptions,
            (unsigned long long)v->vm->cache.translations,
            (unsigned long long)v->vm->cache.invalidations, v->vm->cache.used,
            v->vm->cache.meta_used, v->vm->cache.generation);
    fprintf(stderr, "exits:");
    for (unsigned i = 0; i < ARRAY_SIZE(c->exits); i++)
        fprintf(stderr, " %llu", (unsigned long long)c->exits[i]);
    fprintf(stderr, "\nin C:");
    for (unsigned i = 0; i <= ZYDIS_MNEMONIC_MAX_VALUE; i++)
        if (c->in_c[i])
            fprintf(stderr, " %s %llu", ZydisMnemonicGetString((ZydisMnemonic)i),
                    (unsigned long long)c->in_c[i]);
    fprintf(stderr, "\n");
}
