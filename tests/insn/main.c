/*
 * Runs instructions on the bare CPU and on an engine and compares (insn.h says how).
 *
 *     insn_test [--engine dbt|kvm|native] [--seed N] [--instances N] [--inputs N] [--form NAME]
 *               [--sequences N] [--first N] [--seconds N] [--show N] [--list]
 *
 * First all forms, each by itself, then N random sequences of them. Everything follows from the
 * seed and the form, or the seed and the number of the sequence, so a failure is repeated by the
 * line that is printed with it. "native" compares the bare CPU with itself: a check of this
 * program.
 * --seconds goes on with further seeds for that long.
 */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "insn.h"

struct options {
    const struct engine_ops *ops; /* NULL: native */
    uint64_t seed;
    unsigned instances, inputs, seconds, show;
    unsigned first, sequences; /* number of the first, how many */
    const char *form;
};

/* The cases that wait to be run. */
struct batch {
    unsigned count;
    size_t code_size;
    struct insn_case bare[MAX_CASES], engine[MAX_CASES];
    struct snippet snippets[MAX_CASES]; /* of each case */
    struct sequence sequences[MAX_CASES];
    uint8_t code[CODE_SIZE - (SNIPPET_BASE - CODE_BASE)];
};

struct session {
    struct options options;
    struct guest *guest;
    struct batch *batch;
    unsigned long cases, failures;
    unsigned *form_cases, *form_failures;
    bool *usable; /* of each form */
    unsigned sequence_failures, sequences_shown;
};

static void find_usable(struct session *s)
{
    for (unsigned i = 0; i < form_count; i++)
        s->usable[i] =
            native_has(forms[i].feature) && (!s->guest || guest_has(s->guest, forms[i].feature));
}

/* Runs what is in `bare` on both sides: the bare CPU's results there, the engine's in `engine`. */
static int run_both(struct session *s, struct error *err)
{
    struct batch *b = s->batch;

    memcpy(b->engine, b->bare, b->count * sizeof(b->bare[0]));
    native_run(b->bare, b->count, b->code, b->code_size);
    if (s->guest)
        return guest_run(s->guest, b->engine, b->count, b->code, b->code_size, err);
    native_run(b->engine, b->count, b->code, b->code_size);
    return 0;
}

static int run_batch(struct session *s, struct error *err)
{
    struct batch *b = s->batch;
    int r = b->count ? run_both(s, err) : 0;

    for (unsigned i = 0; !r && i < b->count; i++) {
        const struct snippet *snippet = &b->snippets[i];
        size_t form = (size_t)(snippet->form - forms);
        bool show = s->form_failures[form] < s->options.show;

        s->cases++;
        s->form_cases[form]++;
        if (compare_outcomes(snippet, &b->bare[i], &b->engine[i], show))
            continue;
        s->failures++;
        s->form_failures[form]++;
        if (show)
            printf("    repeat: --seed %llu --instances %u --inputs %u --form '%s'\n",
                   (unsigned long long)s->options.seed, s->options.instances, s->options.inputs,
                   snippet->form->encoding);
    }
    b->count = 0;
    b->code_size = 0;
    return r;
}

/* One encoding with several inputs into the batch, which is run when it is full. */
static int add_snippet(struct session *s, const struct form *form, unsigned variant,
                       unsigned instance, struct random *random, struct error *err)
{
    struct batch *b = s->batch;
    struct snippet snippet;
    int r = 0;

    if (b->count + s->options.inputs > MAX_CASES ||
        b->code_size + sizeof(snippet.bytes) > sizeof(b->code))
        r = run_batch(s, err);
    if (r || !generate_snippet(&snippet, form, variant, instance, SNIPPET_BASE + b->code_size,
                               false, random))
        return r;
    memcpy(b->code + b->code_size, snippet.bytes, snippet.code_length);
    b->code_size += snippet.code_length;
    for (unsigned i = 0; i < s->options.inputs; i++) {
        b->snippets[b->count] = snippet;
        generate_inputs(&b->bare[b->count], &snippet, random);
        b->count++;
    }
    return 0;
}

static int run_form(struct session *s, const struct form *form, struct error *err)
{
    struct random random = {s->options.seed * 1000003 + (uint64_t)(form - forms)};
    unsigned variants = generate_variants(form);
    int r = 0;

    for (unsigned variant = 0; !r && variant < variants; variant++)
        for (unsigned i = 0; !r && i < s->options.instances; i++)
            r = add_snippet(s, form, variant, i, &random, err);
    return r;
}

static bool chosen(const struct options *o, const struct form *form)
{
    return !o->form || strcmp(o->form, form->encoding) == 0 || strstr(form->names, o->form);
}

static int run_all(struct session *s, struct error *err)
{
    int r = 0;

    for (unsigned i = 0; !r && i < form_count; i++) {
        /* Each form starts at the same address whatever was chosen, so that it can be repeated. */
        if (chosen(&s->options, &forms[i]) && s->usable[i]) {
            r = run_form(s, &forms[i], err);
            if (!r)
                r = run_batch(s, err);
        }
    }
    return r;
}

/* --- sequences --- */

/* Drops instructions as long as the rest still differs, then prints what is left. */
static int isolate(struct session *s, struct sequence *q, const struct insn_case *inputs,
                   struct error *err)
{
    struct batch *b = s->batch;
    struct sequence smaller;
    int r = 0;

    for (unsigned i = 0; !r && i <= q->count; i++) {
        smaller = *q;
        if (i < q->count && !sequence_drop(&smaller, i))
            continue;
        b->count = 1;
        b->bare[0] = *inputs;
        b->code_size = smaller.whole.code_length;
        memcpy(b->code + (smaller.whole.address - SNIPPET_BASE), smaller.whole.bytes,
               smaller.whole.code_length);
        b->code_size += smaller.whole.address - SNIPPET_BASE;
        r = run_both(s, err);
        if (r || compare_outcomes(&smaller.whole, &b->bare[0], &b->engine[0], i == q->count))
            continue;
        *q = smaller;
    }
    return r;
}

static int run_sequences_from(struct session *s, unsigned first, unsigned count, struct error *err)
{
    struct batch *b = s->batch;
    struct insn_case inputs;
    int r;

    b->count = 0;
    b->code_size = 0;
    for (unsigned i = 0; i < count; i++) {
        struct random random = {s->options.seed * 1000003 + ~(uint64_t)(first + i)};
        struct sequence *q = &b->sequences[i];
        sequence_generate(q, SNIPPET_BASE + b->code_size, s->usable, &random);
        memcpy(b->code + b->code_size, q->whole.bytes, q->whole.code_length);
        b->code_size += q->whole.code_length;
        for (unsigned n = 0; n < s->options.inputs; n++)
            sequence_inputs(&b->bare[b->count++], q, &random);
    }
    r = run_both(s, err);
    s->cases += b->count;

    int failed = -1;
    for (unsigned i = 0; !r && i < b->count; i++) {
        if (compare_outcomes(&b->sequences[i / s->options.inputs].whole, &b->bare[i], &b->engine[i],
                             false))
            continue;
        s->failures++;
        s->sequence_failures++;
        if (failed < 0)
            failed = (int)i;
    }
    /* Isolating uses the batch again, so only the first one is shown. */
    if (failed >= 0 && s->sequences_shown++ < s->options.show * 10) {
        inputs = b->bare[failed];
        memset(&inputs.out, 0, sizeof(inputs.out));
        inputs.fault_vector = NO_FAULT;
        inputs.fault_error = inputs.fault_rip = inputs.fault_address = 0;
        unsigned number = (unsigned)failed / s->options.inputs;
        r = isolate(s, &b->sequences[number], &inputs, err);
        printf("    repeat: --seed %llu --inputs %u --sequences 1 --first %u --form none\n",
               (unsigned long long)s->options.seed, s->options.inputs, first + number);
    }
    b->count = 0;
    b->code_size = 0;
    return r;
}

static int run_sequences(struct session *s, struct error *err)
{
    unsigned at_once = MAX_CASES / s->options.inputs, done = 0;
    int r = 0;

    if (at_once > sizeof(s->batch->code) / sizeof(s->batch->snippets[0].bytes))
        at_once = sizeof(s->batch->code) / sizeof(s->batch->snippets[0].bytes);
    while (!r && done < s->options.sequences) {
        unsigned count =
            s->options.sequences - done < at_once ? s->options.sequences - done : at_once;
        r = run_sequences_from(s, s->options.first + done, count, err);
        done += count;
    }
    return r;
}

static void report(const struct session *s)
{
    unsigned run = 0, failing = 0;

    for (unsigned i = 0; i < form_count; i++) {
        run += s->form_cases[i] != 0;
        if (!s->form_failures[i])
            continue;
        failing++;
        printf("FAIL %6u of %6u  %-34.60s %s\n", s->form_failures[i], s->form_cases[i],
               forms[i].encoding, forms[i].names);
    }
    printf("%u of %u forms, %lu cases: %u forms fail, %u sequences fail, %lu cases in all\n", run,
           form_count, s->cases, failing, s->sequence_failures, s->failures);
}

static void list_forms(const struct session *s)
{
    for (unsigned i = 0; i < form_count; i++)
        printf("%-40s %s%s\n", forms[i].encoding, forms[i].names,
               s->usable[i] ? "" : "  (not on this CPU)");
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
        {"sequences", required_argument, NULL, 'q'},
        {"first", required_argument, NULL, '1'},
        {"show", required_argument, NULL, 'v'},
        {"list", no_argument, NULL, 'l'},
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
        else if (c == 'q')
            o->sequences = (unsigned)atoi(optarg);
        else if (c == '1')
            o->first = (unsigned)atoi(optarg);
        else if (c == 'v')
            o->show = (unsigned)atoi(optarg);
        else if (c == 'l')
            *list = true;
        else
            return false;
    }
    return optind == argc && o->inputs >= 1 && o->inputs <= MAX_CASES;
}

int main(int argc, char **argv)
{
    struct session s = {.options = {.ops = &engine_dbt,
                                    .seed = 1,
                                    .instances = 16,
                                    .inputs = 4,
                                    .show = 1,
                                    .sequences = 20000}};
    struct error err = {""};
    bool list = false;
    time_t start = time(NULL);
    int r;

    if (!parse_options(&s.options, &list, argc, argv)) {
        fprintf(stderr, "usage: see the head of tests/insn/main.c\n");
        return 2;
    }
    s.batch = malloc(sizeof(*s.batch));
    s.form_cases = calloc(form_count, sizeof(unsigned));
    s.form_failures = calloc(form_count, sizeof(unsigned));
    s.usable = calloc(form_count, sizeof(bool));
    if (!s.batch || !s.form_cases || !s.form_failures || !s.usable)
        return 2;
    s.batch->count = 0;
    s.batch->code_size = 0;
    if (list) {
        find_usable(&s);
        list_forms(&s);
        return 0;
    }

    r = native_setup(&err);
    if (!r && s.options.ops)
        r = guest_new(&s.guest, s.options.ops, &err);
    if (r == -ENOTSUP) {
        printf("skipped: %s\n", err.text);
        return 77;
    }
    if (!r) {
        find_usable(&s);
        r = run_all(&s, &err);
    }
    if (!r)
        r = run_sequences(&s, &err);
    while (!r && time(NULL) - start < (time_t)s.options.seconds) {
        s.options.seed++;
        r = run_all(&s, &err);
        if (!r)
            r = run_sequences(&s, &err);
    }
    if (r)
        printf("error: %s\n", err.text);
    report(&s);
    guest_free(s.guest);
    free(s.batch);
    free(s.form_cases);
    free(s.form_failures);
    free(s.usable);
    return r || s.failures ? 1 : 0;
}
