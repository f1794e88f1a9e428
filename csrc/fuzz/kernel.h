/* SPDX-License-Identifier: MIT */
/*
 * kernel.h - a system of sockets in memory, in place of the real one
 *
 * DESCRIPTION
 *   Included before all else (cc -include) when the multiplexer is built for
 *   fuzz_mux: its system calls come here, and its clock stands still but for
 *   waits and jumps.  A real turn costs some 10 us of system calls, this one 0.1.
 */
#ifndef FUZZ_KERNEL_H
#define FUZZ_KERNEL_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

void *kernel_mmap(void *at, size_t size, int protection, int flags, int fd, off_t offset);
int kernel_munmap(void *memory, size_t size);
ssize_t kernel_recv(int fd, void *room, size_t size, int flags);
ssize_t kernel_recvmsg(int fd, struct msghdr *message, int flags);
ssize_t kernel_send(int fd, const void *data, size_t size, int flags);
ssize_t kernel_sendmsg(int fd, const struct msghdr *message, int flags);
int kernel_shutdown(int fd, int how);
int kernel_close(int fd);
int kernel_poll(struct pollfd *fds, nfds_t n, int timeout_ms);
int kernel_ioctl(int fd, unsigned long request, int *n);
int kernel_setsockopt(int fd, int level, int name, const void *value, socklen_t size);
int kernel_getsockopt(int fd, int level, int name, void *value, socklen_t *size);
int kernel_getpeername(int fd, struct sockaddr *peer, socklen_t *size);
int kernel_accept4(int fd, struct sockaddr *peer, socklen_t *size, int flags);
int kernel_epoll_create1(int flags);
int kernel_epoll_ctl(int epoll, int operation, int fd, struct epoll_event *event);
int kernel_epoll_wait(int epoll, struct epoll_event *ready, int max, int timeout_ms);
int kernel_clock_gettime(clockid_t clock, struct timespec *now);

#ifndef FUZZ_KERNEL
#define mmap kernel_mmap
#define munmap kernel_munmap
#define recv kernel_recv
#define recvmsg kernel_recvmsg
#define send kernel_send
#define sendmsg kernel_sendmsg
#define shutdown kernel_shutdown
#define close kernel_close
#define poll kernel_poll
#define ioctl kernel_ioctl
#define setsockopt kernel_setsockopt
#define getsockopt kernel_getsockopt
#define getpeername kernel_getpeername
#define accept4 kernel_accept4
#define epoll_create1 kernel_epoll_create1
#define epoll_ctl kernel_epoll_ctl
#define epoll_wait kernel_epoll_wait
#define clock_gettime kernel_clock_gettime
#endif

#endif
