/* The Internet checksum; see checksum.h. */
#include "net/checksum.h"

#include <string.h>

/*
 * The sum does not care about the order of bytes within words (RFC 1071, section 2 (B)), so it is
 * taken in the host's order, eight bytes at a time, and swapped at the end.
 */
uint32_t net_checksum_add(uint32_t sum, const uint8_t *data, size_t length)
{
    unsigned __int128 wide = 0;
    uint64_t word = 0;

    for (; length >= sizeof(word); data += sizeof(word), length -= sizeof(word)) {
        memcpy(&word, data, sizeof(word));
        wide += word;
    }
    word = 0;
    memcpy(&word, data, length);
    wide += word;

    uint64_t folded = (uint64_t)wide + (uint64_t)(wide >> 64);
    folded += folded < (uint64_t)(wide >> 64);
    folded = (folded & 0xffffffff) + (folded >> 32);
    folded = (folded & 0xffff) + (folded >> 16 & 0xffff) + (folded >> 32);
    folded = (folded & 0xffff) + (folded >> 16);
    folded = (folded & 0xffff) + (folded >> 16);
    return sum + __builtin_bswap16((uint16_t)folded);
}

uint16_t net_checksum_finish(uint32_t sum)
{
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    return (uint16_t)~sum;
}

void net_checksum_complete(uint8_t *frame, size_t length, const struct net_offload *offload)
{
    size_t field = (size_t)offload->csum_start + offload->csum_offset;

    if (!(offload->flags & NET_OFFLOAD_NEEDS_CSUM) || field + 2 > length)
        return;
    uint16_t sum = net_checksum_finish(
        net_checksum_add(0, frame + offload->csum_start, length - offload->csum_start));
    /* 0 stands for "no checksum" in UDP, and its other form is as right everywhere else. */
    if (!sum)
        sum = 0xffff;
    frame[field] = (uint8_t)(sum >> 8);
    frame[field + 1] = (uint8_t)sum;
}
