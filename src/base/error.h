/*
 * Errors that reach the user.
 *
 * Functions return 0 or a negative errno. Control-plane functions (those that run because somebody
 * typed a command, not because a guest did something) also take a `struct error *` and fill it with
 * one sentence that names the file, option or value at fault and says what would work.
 */
#ifndef SILL_BASE_ERROR_H
#define SILL_BASE_ERROR_H

#define SILL_CHECKED __attribute__((warn_unused_result))

struct error {
    char text[512];
};

/*
 * Writes the sentence (printf style, no trailing newline or full stop needed) and returns `code`,
 * so that a caller can write `return error_set(err, -EINVAL, "...")`. `err` may be NULL.
 */
int error_set(struct error *err, int code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Puts "prefix: " before the sentence that is there and returns `code`. */
int error_prefix(struct error *err, int code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#endif
