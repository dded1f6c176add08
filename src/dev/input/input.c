/* The way of keys and pointer movements to the devices; see input.h. */
#include "dev/input/input.h"

#include <assert.h>
#include <pthread.h>
#include <stdlib.h>

/* A mouse moves some 1000 counts across the screen. */
#define POSITIONS_PER_COUNT 32

struct input {
    pthread_mutex_t lock;     /* all below */
    struct input_sink *sinks; /* the latest first */
    unsigned x, y;            /* where a mouse was led to, in positions */
};

struct input *input_new(void)
{
    struct input *input = calloc(1, sizeof(*input));

    if (input)
        pthread_mutex_init(&input->lock, NULL);
    return input;
}

void input_free(struct input *input)
{
    if (!input)
        return;
    assert(!input->sinks);
    pthread_mutex_destroy(&input->lock);
    free(input);
}

void input_add(struct input *input, struct input_sink *sink)
{
    pthread_mutex_lock(&input->lock);
    sink->next = input->sinks;
    input->sinks = sink;
    pthread_mutex_unlock(&input->lock);
}

void input_remove(struct input *input, struct input_sink *sink)
{
    pthread_mutex_lock(&input->lock);
    struct input_sink **link = &input->sinks;
    while (*link != sink)
        link = &(*link)->next;
    *link = sink->next;
    pthread_mutex_unlock(&input->lock);
}

static bool in_use(const struct input_sink *sink)
{
    return !sink->ops->in_use || sink->ops->in_use(sink->opaque);
}

static struct input_sink *keyboard(struct input *input)
{
    for (struct input_sink *sink = input->sinks; sink; sink = sink->next) {
        if (sink->ops->key && in_use(sink))
            return sink;
    }
    return NULL;
}

void input_key(struct input *input, unsigned code, bool down)
{
    pthread_mutex_lock(&input->lock);
    struct input_sink *sink = keyboard(input);
    if (sink)
        sink->ops->key(sink->opaque, code, down);
    pthread_mutex_unlock(&input->lock);
}

bool input_keys_taken(struct input *input)
{
    pthread_mutex_lock(&input->lock);
    struct input_sink *sink = keyboard(input);
    bool taken = !sink || !sink->ops->keys_taken || sink->ops->keys_taken(sink->opaque);
    pthread_mutex_unlock(&input->lock);
    return taken;
}

static struct input_sink *tablet(struct input *input)
{
    for (struct input_sink *sink = input->sinks; sink; sink = sink->next) {
        if (sink->ops->place && in_use(sink))
            return sink;
    }
    return NULL;
}

static struct input_sink *mouse(struct input *input)
{
    for (struct input_sink *sink = input->sinks; sink; sink = sink->next) {
        if (sink->ops->move && in_use(sink))
            return sink;
    }
    return NULL;
}

/* Counts from one position to another, and how far they really go: the rest is not lost. */
static int counts(unsigned *from, unsigned to)
{
    int way = ((int)to - (int)*from) / POSITIONS_PER_COUNT;

    *from = (unsigned)((int)*from + way * POSITIONS_PER_COUNT);
    return way;
}

void input_place(struct input *input, unsigned x, unsigned y, int dz, unsigned buttons)
{
    x = x > INPUT_POSITION_MAX ? INPUT_POSITION_MAX : x;
    y = y > INPUT_POSITION_MAX ? INPUT_POSITION_MAX : y;
    pthread_mutex_lock(&input->lock);
    struct input_sink *sink = tablet(input);
    if (sink) {
        sink->ops->place(sink->opaque, x, y, dz, buttons);
        input->x = x;
        input->y = y;
    } else if ((sink = mouse(input))) {
        int dx = counts(&input->x, x), dy = counts(&input->y, y);
        sink->ops->move(sink->opaque, dx, dy, dz, buttons);
    }
    pthread_mutex_unlock(&input->lock);
}
