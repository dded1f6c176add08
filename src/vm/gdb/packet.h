/*
 * Framing of GDB's remote serial protocol (GDB manual, appendix "GDB Remote Serial Protocol",
 * "Overview"):
 *
 *     $data#cc      a packet; cc is the sum of the data's bytes modulo 256 in hexadecimal
 *     }x            inside data: the byte x ^ 0x20
 *     + -           a packet was received well, or is to be sent again; until QStartNoAckMode
 *     0x03          between packets: interrupt
 *
 * No thread, no I/O: the server feeds what it received and sends what is in the output.
 */
#ifndef SILL_VM_GDB_PACKET_H
#define SILL_VM_GDB_PACKET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define GDB_PACKET_SIZE 16384 /* most data in a packet, either way; also told to the client */

enum gdb_input {
    GDB_INPUT_NONE,      /* more bytes are needed */
    GDB_INPUT_PACKET,    /* reader.data has one, unescaped and with a zero behind it */
    GDB_INPUT_INTERRUPT, /* 0x03 */
    GDB_INPUT_DAMAGED,   /* a packet with a wrong sum, or too long: ask for it again */
    GDB_INPUT_AGAIN,     /* the client asks for our last packet again */
};

/* Takes a stream apart. Zeroed memory is its start. */
struct gdb_reader {
    enum { GDB_BETWEEN, GDB_DATA, GDB_ESCAPED, GDB_SUM_HIGH, GDB_SUM_LOW } state;
    bool too_long;
    uint8_t sum; /* of what came */
    int claimed; /* first digit of the sum that the client claims; -1: no digit */
    size_t length;
    char data[GDB_PACKET_SIZE + 1];
};

enum gdb_input gdb_reader_take(struct gdb_reader *reader, uint8_t byte);

/* A packet in the making. What does not fit is dropped and `overflow` set. */
struct gdb_writer {
    bool overflow;
    size_t length; /* of the data; the frame comes with gdb_writer_end() */
    char data[GDB_PACKET_SIZE];
};

void gdb_put(struct gdb_writer *w, const char *format, ...) __attribute__((format(printf, 2, 3)));
void gdb_put_hex(struct gdb_writer *w, const void *bytes, size_t length);
/* With escapes where the protocol needs them. */
void gdb_put_binary(struct gdb_writer *w, const void *bytes, size_t length);

/* The frame around the data, at most GDB_FRAME_SIZE bytes into `to`; returns how many. */
#define GDB_FRAME_SIZE (GDB_PACKET_SIZE + 4)
size_t gdb_writer_end(const struct gdb_writer *w, char *to);

/*
 * Parsing of data: each moves *at on past what it took; false, and *at is anywhere, if it is not
 * there.
 */
bool gdb_take_number(const char **at, uint64_t *value); /* hexadecimal, at most 16 digits */
bool gdb_take_char(const char **at, char c);
bool gdb_take_text(const char **at, const char *text);
/* `length` bytes, two digits each. */
bool gdb_take_bytes(const char **at, void *bytes, size_t length);

#endif
