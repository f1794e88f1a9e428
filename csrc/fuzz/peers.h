/* SPDX-License-Identifier: MIT */
/* peers.h - the other ends of kernel.c's sockets, which the fuzzer plays */
#ifndef FUZZ_PEERS_H
#define FUZZ_PEERS_H

#include <stddef.h>
#include <stdint.h>

enum { PEERS = 64, SAID = 2048, WINDOW = 600 }; /* bytes that one says in its life; that wait for it before send(2) says EAGAIN */

struct peer {
    int is_open; /* a descriptor is given once in a run: a late use of it is found */
    int is_watched;
    uint32_t interest;
    uint64_t data;
    char said[SAID];
    size_t sent, read;    /* bytes of it: so many were sent; and received by the library */
    int has_ended, has_reset, is_shut;
    size_t heard, taken;  /* bytes sent to it: so many in all, and read by it */
    uint64_t sum;         /* of what it heard */
};

extern struct peer peers[PEERS];
extern int64_t kernel_now_ms;

void kernel_reset(void);
int kernel_socket(void); /* -1: there are no more */
struct peer *kernel_peer(int fd);
int kernel_listener(void);
void kernel_dial(void);  /* somebody waits to be accepted */

#endif
