/* SPDX-License-Identifier: MIT */
/*
 * stream.h - what the library knows of a descriptor beside its face; not installed
 */
#ifndef SOCKBUF_STREAM_H
#define SOCKBUF_STREAM_H

#include "sockbuf.h"

#include <sys/socket.h>

int sb__class_of(int error); /* an errno as SB_ERR_* */
size_t sb__waiting(int fd);  /* bytes that can be received at once; 1: some, 0: none, or it cannot be known */
int sb__has_come(int fd);    /* whether there are some, or the end, or an error */

/* As sb_receive, and when room is full go on in more. */
long sb__receive_two(int fd, char *room, size_t size, char *more, size_t more_size);

/* Receive a packet (SOCK_SEQPACKET) with recvmsg(2) and these flags.  Returns its bytes, 0 or more, also of those that
 * had no room; or as sb_receive.  With SO_PASSCRED on, MSG_CTRUNC comes with a packet, and not at the end of file. */
long sb__receive_packet(int fd, char *room, size_t size, int flags);

/* sendmsg(2), without waiting and without SIGPIPE. */
ssize_t sb__send_message(int fd, const struct msghdr *message);

#endif
