/*
 * Runs instructions on the bare CPU and on an engine and compares (insn.h says how).
 *
 *     insn_test [--engine dbt|kvm|native] [--seed N] [--instances N] [--inputs N]
 *               [--form NUMBER|MNEMONIC|none] [--sequences N] [--first N] [--seconds N] [--forever]
 *               [--show N] [--list] [--inject MNEMONIC]
 *
 * First all forms, each by itself, then N random sequences of them. Everything follows from the
 * seed and the form, or the seed and the number of the sequence, so a failure is repeated by the
 * line that is printed with it. "native" compares the bare CPU with itself: a check of this
 * program.
 *
 * --seconds and --forever go on with further seeds, and say which. --inject falsifies what the
 * engine leaves in rdx where that instruction runs with an odd rcx: a check of the shrinking.
 */
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "insn.h"

/* Encodings that the decoder refuses once all choices are made are made up again. */
#define MAX_TRIES 4

struct options {
    const struct engine_ops *ops; /* NULL: native */
    uint64_t seed;
    unsigned instances, inputs, seconds, show;
    unsigned first, sequences; /* number of the first, how many */
    const char *form;
    const char *inject;
    bool forever;
};

/* The cases that wait to be run. */
struct batch {
    unsigned count;
    size_t code_size;
    struct insn_case bare[MAX_CASES], engine[MAX_CASES];
    unsigned snippet_of[MAX_CASES];
    unsigned snippets;
    struct snippet snippet[MAX_CASES];
    struct sequence sequence[MAX_CASES];
    uint8_t code[CODE_SIZE - (SNIPPET_BASE - CODE_BASE)];
};

struct session {
    struct options options;
    struct guest *guest;
    struct batch *batch;
    struct error err;
    unsigned long cases, failures;
    unsigned *form_cases, *form_failures;
    bool *usable, *hidden; /* of each form */
    unsigned sequence_failures, sequences_shown;
};

static void find_usable(struct session *s)
{
    static struct x86_cpuid native;
    const struct x86_cpuid *cpuid = s->guest ? guest_cpuid(s->guest) : &native;

    native_cpuid(&native);
    for (unsigned i = 0; i < native.count; i++) {
        struct x86_cpuid_leaf *leaf = &native.leaf[i];

        if (leaf->leaf == 7 && leaf->subleaf == 0)
            leaf->ebx &= ~(1u << 16); /* AVX-512, whose registers are no part of cases */
        if (leaf->leaf == 0x80000008)
            leaf->ebx &= ~1u; /* CLZERO, whose operand the decoder does not name */
    }
    for (unsigned i = 0; i < form_count; i++) {
        s->hidden[i] = forms[i].known && feature_hidden(cpuid, (ZydisISASet)forms[i].isa_set,
                                                        (ZydisISAExt)forms[i].isa_ext);
        s->usable[i] = forms[i].known && !s->hidden[i];
    }
}

/* --- running --- */

static bool runs(const struct snippet *s, const char *mnemonic)
{
    return s->known && strcmp(ZydisMnemonicGetString(s->z.mnemonic), mnemonic) == 0;
}

static void inject(const char *mnemonic, const struct snippet *s, const struct sequence *q,
                   struct insn_case *c)
{
    bool found = !q && runs(s, mnemonic);

    for (unsigned i = 0; q && i < q->count; i++)
        found |= runs(&q->parts[i], mnemonic);
    if (found && (c->in.gpr[X86_RCX] & 1))
        c->out.gpr[X86_RDX] ^= 1;
}

static volatile sig_atomic_t stopped; /* by SIGINT or SIGTERM: report, and that is it */

static void on_stop(int number)
{
    stopped = 1;
}

static void clear_outcome(struct insn_case *c)
{
    memset(&c->out, 0, sizeof(c->out));
    c->fault_vector = NO_FAULT;
    c->fault_error = c->fault_rip = c->fault_address = 0;
}

/* Runs what is in `bare` on both sides: the bare CPU's results there, the engine's in `engine`. */
static int run_both(struct session *s)
{
    struct batch *b = s->batch;

    memcpy(b->engine, b->bare, b->count * sizeof(b->bare[0]));
    native_run(b->bare, b->count, b->code, b->code_size);
    if (s->guest)
        return guest_run(s->guest, b->engine, b->count, b->code, b->code_size, &s->err);
    native_run(b->engine, b->count, b->code, b->code_size);
    return 0;
}

/* Whether a case of the batch agrees. If one does not, the bare CPU is asked once more: an
 * interrupt there may lose the x87 pointers, which AMD's processors save only with an exception
 * pending. */
static bool agrees(struct session *s, const struct snippet *snippet, const struct sequence *q,
                   unsigned i, bool *asked_again)
{
    struct batch *b = s->batch;

    if (s->options.inject)
        inject(s->options.inject, snippet, q, &b->engine[i]);
    if (compare_outcomes(snippet, &b->bare[i], &b->engine[i], false))
        return true;
    if (!*asked_again) {
        *asked_again = true;
        for (unsigned n = 0; n < b->count; n++)
            clear_outcome(&b->bare[n]);
        native_run(b->bare, b->count, b->code, b->code_size);
    }
    return compare_outcomes(snippet, &b->bare[i], &b->engine[i], false);
}

/* One failure alone, for shrink(). */
static bool differs(void *opaque, const struct failure *f)
{
    struct session *s = opaque;
    struct batch *b = s->batch;

    b->count = 1;
    b->bare[0] = f->inputs;
    b->code_size = f->snippet->address - SNIPPET_BASE;
    memcpy(b->code + b->code_size, f->snippet->bytes, f->snippet->code_length);
    b->code_size += f->snippet->code_length;
    if (run_both(s))
        return false;
    if (s->options.inject)
        inject(s->options.inject, f->snippet, f->sequence, &b->engine[0]);
    return !compare_outcomes(f->snippet, &b->bare[0], &b->engine[0], false);
}

/* Prints a failure, made small. The batch is used for that. */
static void show_failure(struct session *s, struct snippet *snippet, struct sequence *sequence,
                         const struct insn_case *outcome, const struct insn_case *engine)
{
    struct batch *b = s->batch;
    struct failure f = {.sequence = sequence, .snippet = snippet, .inputs = *outcome};

    clear_outcome(&f.inputs);
    if (!differs(s, &f)) {
        printf("differs, but not when it runs again alone:\n");
        compare_outcomes(snippet, outcome, engine, true);
        return;
    }
    shrink(&f, differs, s);
    differs(s, &f);
    compare_outcomes(f.snippet, &b->bare[0], &b->engine[0], true);
}

/* Which cases of the batch, that has just run, differ: one that is to be shown, or none (NULL). */
static int run_batch(struct session *s)
{
    struct batch *b = s->batch;
    int r = b->count ? run_both(s) : 0;
    static struct {
        struct snippet snippet;
        struct insn_case bare, engine;
    } shown[8];
    bool asked_again = false;
    unsigned show = 0;

    for (unsigned i = 0; !r && i < b->count; i++) {
        struct snippet *snippet = &b->snippet[b->snippet_of[i]];
        size_t form = (size_t)(snippet->form - forms);

        s->cases++;
        s->form_cases[form]++;
        if (agrees(s, snippet, NULL, i, &asked_again))
            continue;
        s->failures++;
        if (s->form_failures[form]++ < s->options.show && show < ARRAY_SIZE(shown)) {
            shown[show].snippet = *snippet;
            shown[show].bare = b->bare[i];
            shown[show++].engine = b->engine[i];
        }
    }
    for (unsigned i = 0; i < show; i++) {
        show_failure(s, &shown[i].snippet, NULL, &shown[i].bare, &shown[i].engine);
        printf("    repeat: --seed %llu --instances %u --inputs %u --sequences 0 --form %zu\n",
               (unsigned long long)s->options.seed, s->options.instances, s->options.inputs,
               (size_t)(shown[i].snippet.form - forms));
        fflush(stdout);
    }
    b->count = b->snippets = 0;
    b->code_size = 0;
    return r;
}

/* --- single instructions --- */

/* One encoding with several inputs into the batch. */
static void add_snippet(struct session *s, const struct form *form, struct random *random)
{
    struct batch *b = s->batch;
    struct snippet *snippet = &b->snippet[b->snippets];
    unsigned inputs = s->usable[form - forms] ? s->options.inputs : 1, tries = 0;

    while (!encode_form(snippet, form, SNIPPET_BASE + b->code_size, false, random))
        if (++tries == MAX_TRIES)
            return;
    snippet->refused = s->hidden[form - forms];
    memcpy(b->code + b->code_size, snippet->bytes, snippet->code_length);
    b->code_size += snippet->code_length;
    for (unsigned i = 0; i < inputs; i++) {
        b->snippet_of[b->count] = b->snippets;
        inputs_generate(&b->bare[b->count++], snippet, random);
    }
    b->snippets++;
}

static bool chosen(const struct options *o, unsigned form)
{
    char *end;

    if (forms[form].width == 16 && !has_ldt)
        return false;
    if (!o->form)
        return true;
    unsigned long number = strtoul(o->form, &end, 10);
    if (end != o->form && !*end)
        return number == form;
    return forms[form].known &&
           strcmp(o->form, ZydisMnemonicGetString((ZydisMnemonic)forms[form].mnemonic)) == 0;
}

static int run_form(struct session *s, unsigned form)
{
    struct batch *b = s->batch;
    struct random random = {s->options.seed * 1000003 + form};
    unsigned instances = s->usable[form] ? s->options.instances : 1;
    size_t room = instances * sizeof(b->snippet[0].bytes);
    int r = 0;

    if (b->count + instances * s->options.inputs > MAX_CASES ||
        b->code_size + room > sizeof(b->code))
        r = run_batch(s);
    for (unsigned i = 0; !r && i < instances; i++)
        add_snippet(s, &forms[form], &random);
    return r;
}

static int run_all(struct session *s)
{
    int r = 0;

    for (unsigned i = 0; !r && !stopped && i < form_count; i++)
        if (chosen(&s->options, i))
            r = run_form(s, i);
    return r ? r : run_batch(s);
}

/* --- sequences --- */

static int run_sequences_from(struct session *s, unsigned first, unsigned count)
{
    struct batch *b = s->batch;
    bool asked_again = false;
    int r, failed = -1;

    b->count = 0;
    b->code_size = 0;
    for (unsigned i = 0; i < count; i++) {
        struct random random = {s->options.seed * 1000003 + ~(uint64_t)(first + i)};
        struct sequence *q = &b->sequence[i];
        sequence_generate(q, SNIPPET_BASE + b->code_size, s->usable, &random);
        memcpy(b->code + b->code_size, q->whole.bytes, q->whole.code_length);
        b->code_size += q->whole.code_length;
        for (unsigned n = 0; n < s->options.inputs; n++)
            sequence_inputs(&b->bare[b->count++], q, &random);
    }
    r = run_both(s);
    s->cases += b->count;

    for (unsigned i = 0; !r && i < b->count; i++) {
        struct sequence *q = &b->sequence[i / s->options.inputs];

        if (agrees(s, &q->whole, q, i, &asked_again))
            continue;
        s->failures++;
        s->sequence_failures++;
        if (failed < 0)
            failed = (int)i;
    }
    /* Shrinking uses the batch again, so only the first one is shown. */
    if (failed >= 0 && s->sequences_shown++ < s->options.show * 10) {
        unsigned number = (unsigned)failed / s->options.inputs;
        struct insn_case bare = b->bare[failed], engine = b->engine[failed];

        show_failure(s, &b->sequence[number].whole, &b->sequence[number], &bare, &engine);
        printf("    repeat: --seed %llu --inputs %u --sequences 1 --first %u --form none\n",
               (unsigned long long)s->options.seed, s->options.inputs, first + number);
        fflush(stdout);
    }
    b->count = 0;
    b->code_size = 0;
    return r;
}

static int run_sequences(struct session *s)
{
    unsigned at_once = MAX_CASES / s->options.inputs, done = 0;
    unsigned room = sizeof(s->batch->code) / sizeof(s->batch->snippet[0].bytes);
    int r = 0;

    if (at_once > room)
        at_once = room;
    while (!r && !stopped && done < s->options.sequences) {
        unsigned count =
            s->options.sequences - done < at_once ? s->options.sequences - done : at_once;
        r = run_sequences_from(s, s->options.first + done, count);
        done += count;
    }
    return r;
}

/* --- the program --- */

static void report(const struct session *s)
{
    unsigned run = 0, failing = 0;
    char name[128];

    for (unsigned i = 0; i < form_count; i++) {
        run += s->form_cases[i] != 0;
        if (!s->form_failures[i])
            continue;
        failing++;
        form_describe(&forms[i], name, sizeof(name));
        printf("FAIL %6u of %6u  %6u: %s\n", s->form_failures[i], s->form_cases[i], i, name);
    }
    printf("%u of %u forms, %lu cases: %u forms fail, %u sequences fail, %lu cases in all\n", run,
           form_count, s->cases, failing, s->sequence_failures, s->failures);
}

static void list_forms(const struct session *s)
{
    char name[128];

    for (unsigned i = 0; i < form_count; i++) {
        form_describe(&forms[i], name, sizeof(name));
        printf("%6u: %s%s\n", i, name, s->hidden[i] ? "  (hidden)" : "");
    }
}

static bool parse_options(struct options *o, bool *list, int argc, char **argv)
{
    static const struct option names[] = {
        {"engine", required_argument, NULL, 'e'},
        {"seed", required_argument, NULL, 's'},
        {"instances", required_argument, NULL, 'i'},
        {"inputs", required_argument, NULL, 'n'},
        {"form", required_argument, NULL, 'f'},
        {"seconds", required_argument, NULL, 't'},
        {"forever", no_argument, NULL, 'F'},
        {"sequences", required_argument, NULL, 'q'},
        {"first", required_argument, NULL, '1'},
        {"show", required_argument, NULL, 'v'},
        {"list", no_argument, NULL, 'l'},
        {"inject", required_argument, NULL, 'j'},
        {0},
    };
    int c;

    while ((c = getopt_long(argc, argv, "", names, NULL)) != -1) {
        if (c == 'e' && strcmp(optarg, "dbt") == 0)
            o->ops = &engine_dbt;
        else if (c == 'e' && strcmp(optarg, "kvm") == 0)
            o->ops = &engine_kvm;
        else if (c == 'e' && strcmp(optarg, "native") == 0)
            o->ops = NULL;
        else if (c == 's')
            o->seed = strtoull(optarg, NULL, 0);
        else if (c == 'i')
            o->instances = (unsigned)atoi(optarg);
        else if (c == 'n')
            o->inputs = (unsigned)atoi(optarg);
        else if (c == 'f')
            o->form = optarg;
        else if (c == 't')
            o->seconds = (unsigned)atoi(optarg);
        else if (c == 'F')
            o->forever = true;
        else if (c == 'q')
            o->sequences = (unsigned)atoi(optarg);
        else if (c == '1')
            o->first = (unsigned)atoi(optarg);
        else if (c == 'v')
            o->show = (unsigned)atoi(optarg);
        else if (c == 'l')
            *list = true;
        else if (c == 'j')
            o->inject = optarg;
        else
            return false;
    }
    return optind == argc && o->inputs >= 1 && o->inputs * o->instances <= MAX_CASES &&
           o->instances <= 64;
}

static int run_seeds(struct session *s)
{
    time_t start = time(NULL);
    int r;

    for (;;) {
        if (s->options.forever || s->options.seconds) {
            printf("seed %llu\n", (unsigned long long)s->options.seed);
            fflush(stdout);
        }
        r = run_all(s);
        if (!r)
            r = run_sequences(s);
        if (r || stopped ||
            (!s->options.forever && time(NULL) - start >= (time_t)s->options.seconds))
            return r;
        s->options.seed++;
    }
}

int main(int argc, char **argv)
{
    struct session s = {.options = {.ops = &engine_dbt,
                                    .seed = 1,
                                    .instances = 2,
                                    .inputs = 4,
                                    .show = 1,
                                    .sequences = 20000}};
    bool list = false;
    int r;

    if (!parse_options(&s.options, &list, argc, argv)) {
        fprintf(stderr, "usage: see the head of tests/insn/main.c\n");
        return 2;
    }
    s.batch = malloc(sizeof(*s.batch));
    if (!s.batch || forms_walk())
        return 2;
    s.form_cases = calloc(form_count, sizeof(unsigned));
    s.form_failures = calloc(form_count, sizeof(unsigned));
    s.usable = calloc(form_count, sizeof(bool));
    s.hidden = calloc(form_count, sizeof(bool));
    if (!s.form_cases || !s.form_failures || !s.usable || !s.hidden)
        return 2;
    s.batch->count = s.batch->snippets = 0;
    s.batch->code_size = 0;

    r = native_setup(&s.err);
    if (!r && s.options.ops)
        r = guest_new(&s.guest, s.options.ops, &s.err);
    if (r == -ENOTSUP) {
        printf("skipped: %s\n", s.err.text);
        return 77;
    }
    if (!r) {
        signal(SIGINT, on_stop);
        signal(SIGTERM, on_stop);
        find_usable(&s);
        if (list)
            list_forms(&s);
        else
            r = run_seeds(&s);
    }
    if (r)
        printf("error: %s\n", s.err.text);
    if (!list)
        report(&s);
    guest_free(s.guest);
    free(s.batch);
    free(forms);
    free(s.form_cases);
    free(s.form_failures);
    free(s.usable);
    free(s.hidden);
    return r || s.failures ? 1 : 0;
}
