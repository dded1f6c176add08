/*
 * String instructions: MOVS, STOS, LODS, CMPS, SCAS, INS, OUTS, with every repeat prefix, operand
 * and address size. Intel SDM volume 1, 7.3.9; volume 2, REP. vCPU thread.
 *
 * The host's own string instructions do the work, so that overlap, direction and flags are exact by
 * construction. A run is cut where the source or the destination leaves its page, its segment or
 * the address width; each piece works on host memory directly:
 *
 *     guest  [....|========|====....]      one run of REP MOVSB over two source pages
 *     host        ^ piece 1 ^ piece 2      each a `rep movsb` between host addresses
 *
 * An element that crosses a page or is not plain RAM goes through a buffer. Registers are written
 * after each piece, so that a fault leaves them at the element that faulted; after about 64 KiB the
 * run loop gets a look (DBT_JUMP with rip unchanged) and interrupts are seen.
 */
#include "engine/dbt/operand.h"
#include "engine/dbt/segment.h"
#include "engine/dbt/system.h"
#include "engine/dbt/task.h"

enum string_kind { MOVS, STOS, LODS, CMPS, SCAS, INS, OUTS };

struct string_op {
    enum string_kind kind;
    unsigned size; /* of an element, bytes */
    bool source, destination;
    unsigned source_segment;
    bool rep, repne, down;
};

/* Work done in one call, in bytes; an element that is not plain RAM counts as many. */
#define STRING_BUDGET (64 * 1024)
#define STRING_SLOW_ELEMENT 64

/* One piece for the host's instructions: pointers to the first element and how many there are. */
struct piece {
    uint8_t *source, *destination;
    uint64_t count;
    uint64_t rax;
};

static bool decode(struct dbt_vcpu *v, const struct insn *insn, struct string_op *op)
{
    switch (insn->opcode & 0xfe) {
    case 0x6c:
        op->kind = INS;
        break;
    case 0x6e:
        op->kind = OUTS;
        break;
    case 0xa4:
        op->kind = MOVS;
        break;
    case 0xa6:
        op->kind = CMPS;
        break;
    case 0xaa:
        op->kind = STOS;
        break;
    case 0xac:
        op->kind = LODS;
        break;
    case 0xae:
        op->kind = SCAS;
        break;
    default:
        return false;
    }
    op->size = insn->opcode & 1 ? insn->operand_width / 8 : 1;
    if (op->size == 8 && (op->kind == INS || op->kind == OUTS))
        op->size = 4;
    op->source = op->kind == MOVS || op->kind == LODS || op->kind == CMPS || op->kind == OUTS;
    op->destination = op->kind != LODS && op->kind != OUTS;
    op->source_segment = insn->memory.segment;
    op->rep = insn->rep || insn->repne;
    op->repne = insn->repne;
    op->down = v->flags_arith & X86_FLAG_DF;
    return true;
}

/* --- the host's instructions --- */

/* AH gets SF ZF AF PF CF and AL OF, for the instructions that compare. */
#define TAKE_FLAGS "lahf\n\tseto %%al\n\t"

#define HOST_STRING(instruction, after)                                                            \
    __asm__ volatile("test %b[down], %b[down]\n\t"                                                 \
                     "jz 1f\n\t"                                                                   \
                     "std\n"                                                                       \
                     "1:\t" instruction "\n\t" after "cld"                                         \
                     : "+S"(p->source), "+D"(p->destination), "+c"(p->count), "+a"(p->rax)         \
                     : [down] "q"(down)                                                            \
                     : "cc", "memory")

#define HOST_STRING_SIZES(size, instruction, after)                                                \
    do {                                                                                           \
        switch (size) {                                                                            \
        case 1:                                                                                    \
            HOST_STRING(instruction "b", after);                                                   \
            break;                                                                                 \
        case 2:                                                                                    \
            HOST_STRING(instruction "w", after);                                                   \
            break;                                                                                 \
        case 4:                                                                                    \
            HOST_STRING(instruction "l", after);                                                   \
            break;                                                                                 \
        default:                                                                                   \
            HOST_STRING(instruction "q", after);                                                   \
            break;                                                                                 \
        }                                                                                          \
    } while (0)

/* Runs the piece (count is not 0) and moves its fields on. */
static void run_piece(const struct string_op *op, struct piece *p, bool down)
{
    switch (op->kind) {
    case MOVS:
        HOST_STRING_SIZES(op->size, "rep movs", "");
        break;
    case STOS:
        HOST_STRING_SIZES(op->size, "rep stos", "");
        break;
    case LODS:
        HOST_STRING_SIZES(op->size, "rep lods", "");
        break;
    case CMPS:
        if (op->repne)
            HOST_STRING_SIZES(op->size, "repne cmps", TAKE_FLAGS);
        else
            HOST_STRING_SIZES(op->size, "repe cmps", TAKE_FLAGS);
        break;
    case SCAS:
        if (op->repne)
            HOST_STRING_SIZES(op->size, "repne scas", TAKE_FLAGS);
        else
            HOST_STRING_SIZES(op->size, "repe scas", TAKE_FLAGS);
        break;
    case INS:
    case OUTS:
        break; /* done by port_element() */
    }
}

/* --- cutting a run into pieces --- */

/*
 * Host address of the element at segment:offset, NULL if it must go through the buffer, and *count
 * cut down to the elements that follow it in the same page, segment and address width.
 */
static enum dbt_result locate(struct dbt_vcpu *v, const struct string_op *op, unsigned segment,
                              uint64_t offset, uint64_t mask, unsigned access, uint64_t *count,
                              uint8_t **host, gva_t *linear)
{
    uint64_t length, fit, low;

    if (segment_linear(v, segment, offset, op->size, access, linear) == DBT_FAULT ||
        mmu_host(v, *linear, access, host, &length) == DBT_FAULT)
        return DBT_FAULT;
    if (!*host || length < op->size) {
        *host = NULL;
        *count = 1;
        return DBT_NEXT;
    }
    /* Elements are at most a page's worth, so none of this can overflow. */
    if (op->down) {
        uint64_t below = *linear & (GUEST_PAGE_SIZE - 1);

        fit = (offset < below ? offset : below) / op->size + 1;
    } else {
        uint64_t above = mask - offset; /* bytes after the first */

        fit = (above < length - 1 ? above + 1 : length) / op->size;
    }
    if (fit == 0)
        fit = 1;
    if (fit < *count)
        *count = fit;
    low = op->down ? offset - (*count - 1) * op->size : offset;
    if (!(v->mode & DBT_MODE_CODE64) &&
        !segment_contains(&v->segment[segment], low, *count * op->size))
        *count = 1;
    return DBT_NEXT;
}

/* INS and OUTS: one element through the buffer. */
static enum dbt_result port_element(struct dbt_vcpu *v, const struct string_op *op, gva_t source,
                                    gva_t destination)
{
    uint16_t port = v->gpr[X86_RDX];
    uint32_t value = 0;

    if (op->kind == OUTS) {
        if (mmu_read(v, source, &value, op->size, MMU_READ) == DBT_FAULT)
            return DBT_FAULT;
        dbt_port_write(v, port, op->size, value);
        return DBT_NEXT;
    }
    /* Reading a port has effects, so the store must be known to succeed before. */
    if (mmu_probe_write(v, destination, op->size, MMU_WRITE) == DBT_FAULT)
        return DBT_FAULT;
    value = dbt_port_read(v, port, op->size);
    return mmu_write(v, destination, &value, op->size, MMU_WRITE);
}

/* One element of the others: operands are copied to buffers, the instruction runs on those. */
static enum dbt_result buffered_element(struct dbt_vcpu *v, const struct string_op *op,
                                        struct piece *p, gva_t source, gva_t destination)
{
    uint64_t from = 0, to = 0;

    if (op->source && mmu_read(v, source, &from, op->size, MMU_READ) == DBT_FAULT)
        return DBT_FAULT;
    if ((op->kind == CMPS || op->kind == SCAS) &&
        mmu_read(v, destination, &to, op->size, MMU_READ) == DBT_FAULT)
        return DBT_FAULT;
    p->source = (uint8_t *)&from;
    p->destination = (uint8_t *)&to;
    run_piece(op, p, false);
    if (op->kind == MOVS || op->kind == STOS)
        return mmu_write(v, destination, &to, op->size, MMU_WRITE);
    return DBT_NEXT;
}

/* Registers and flags after `done` elements. */
static void advance(struct dbt_vcpu *v, const struct insn *insn, const struct string_op *op,
                    const struct piece *p, uint64_t done)
{
    uint64_t step = op->down ? -(done * op->size) : done * op->size;

    if (op->source)
        gpr_write(v, X86_RSI, insn->address_width, v->gpr[X86_RSI] + step);
    if (op->destination)
        gpr_write(v, X86_RDI, insn->address_width, v->gpr[X86_RDI] + step);
    if (op->rep)
        gpr_write(v, X86_RCX, insn->address_width, v->gpr[X86_RCX] - done);
    if (op->kind == LODS)
        gpr_write(v, X86_RAX, op->size * 8, p->rax);
    if (op->kind == CMPS || op->kind == SCAS)
        v->flags_arith = (v->flags_arith & ~(DBT_ARITH_FLAGS & ~X86_FLAG_DF)) |
                         (p->rax >> 8 & 0xd5) | (p->rax & 1) << 11;
}

/* Executes up to `count` elements and says in *done how many; moves the registers on. */
static enum dbt_result string_piece(struct dbt_vcpu *v, const struct insn *insn,
                                    const struct string_op *op, uint64_t count, uint64_t *done,
                                    bool *slow)
{
    bool writes = op->kind == MOVS || op->kind == STOS || op->kind == INS;
    bool ports = op->kind == INS || op->kind == OUTS;
    uint64_t mask = width_mask(insn->address_width);
    struct piece p = {.rax = v->gpr[X86_RAX]};
    gva_t source = 0, destination = 0;

    if (op->source && locate(v, op, op->source_segment, v->gpr[X86_RSI] & mask, mask, MMU_READ,
                             &count, &p.source, &source) == DBT_FAULT)
        return DBT_FAULT;
    if (op->destination &&
        locate(v, op, X86_ES, v->gpr[X86_RDI] & mask, mask, writes ? MMU_WRITE : MMU_READ, &count,
               &p.destination, &destination) == DBT_FAULT)
        return DBT_FAULT;
    *slow = ports || (op->source && !p.source) || (op->destination && !p.destination);
    if (*slow)
        count = 1;
    p.count = count;
    if (ports) {
        if (port_element(v, op, source, destination) == DBT_FAULT)
            return DBT_FAULT;
        p.count = 0;
    } else if (*slow) {
        if (buffered_element(v, op, &p, source, destination) == DBT_FAULT)
            return DBT_FAULT;
    } else {
        run_piece(op, &p, op->down);
    }
    *done = count - p.count;
    advance(v, insn, op, &p, *done);
    return DBT_NEXT;
}

/* REPE and REPNE end by the comparison, too. */
static bool comparison_ends(const struct dbt_vcpu *v, const struct string_op *op)
{
    bool equal = v->flags_arith & X86_FLAG_ZF;

    return (op->kind == CMPS || op->kind == SCAS) && equal == op->repne;
}

enum dbt_result string_execute(struct dbt_vcpu *v, const struct insn *insn)
{
    int64_t budget = STRING_BUDGET;
    struct string_op op;
    uint64_t done;
    bool slow;

    if (!decode(v, insn, &op))
        return dbt_raise(v, X86_VECTOR_UD);
    do {
        uint64_t count = op.rep ? gpr_read(v, X86_RCX, insn->address_width) : 1;

        if ((op.kind == INS || op.kind == OUTS) &&
            tss_check_io(v, v->gpr[X86_RDX], op.size) == DBT_FAULT)
            return DBT_FAULT;
        if (count == 0)
            return insn_next(v, insn);
        if (v->mode & DBT_MODE_TF)
            count = 1; /* the trap comes after each element */
        if (string_piece(v, insn, &op, count, &done, &slow) == DBT_FAULT)
            return DBT_FAULT;
        if (!op.rep || comparison_ends(v, &op) || !gpr_read(v, X86_RCX, insn->address_width))
            return insn_next(v, insn);
        budget -= slow ? STRING_SLOW_ELEMENT : (int64_t)(done * op.size);
    } while (budget > 0 && !(v->mode & DBT_MODE_TF));
    return DBT_JUMP;
}
