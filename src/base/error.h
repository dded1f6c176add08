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
 * Writes the sentence (printf style, no trailing newline or full stop needed) and gives `code`, so
 * that a caller can write `return error_set(err, -EINVAL, "...")`. `err` may be NULL. A macro, for
 * then the compiler sees that a failure never becomes 0; `code` is evaluated first, so that it may
 * be -errno.
 */
#define error_set(err, code, ...)                                                                  \
    ({                                                                                             \
        int error_code_ = (code);                                                                  \
        error_write((err), __VA_ARGS__);                                                           \
        error_code_;                                                                               \
    })
void error_write(struct error *err, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Puts "prefix: " before the sentence that is there and returns `code`. */
int error_prefix(struct error *err, int code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#endif
