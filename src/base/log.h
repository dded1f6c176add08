/*
 * Diagnostics for the developer and the operator: one line each on standard error. Libraries never
 * print results; they return errors (error.h). The level is process wide and set once by main().
 * A guest can trigger log lines, so anything a guest causes must use log_guest(), which is silent
 * by default and rate limited.
 */
#ifndef SILL_BASE_LOG_H
#define SILL_BASE_LOG_H

enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG };

void log_set_level(enum log_level level);
void log_message(enum log_level level, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Something odd that the guest did (unknown register, malformed ring). Shown from LOG_DEBUG on. */
void log_guest(const char *device, const char *format, ...) __attribute__((format(printf, 2, 3)));

#define log_error(...) log_message(LOG_ERROR, __VA_ARGS__)
#define log_warn(...) log_message(LOG_WARN, __VA_ARGS__)
#define log_info(...) log_message(LOG_INFO, __VA_ARGS__)
#define log_debug(...) log_message(LOG_DEBUG, __VA_ARGS__)

#endif
