/* SPDX-License-Identifier: MIT */
/*
 * short_io - a preloaded library that makes reading and writing as bad as POSIX allows
 *
 * SYNOPSIS
 *   LD_PRELOAD=short_io.so SHORT_IO_SEED=1 SHORT_IO_MOST=7 program
 *
 * DESCRIPTION
 *   recv(2), recvfrom(2), send(2) and sendto(2) on stream sockets take 1 to
 *   SHORT_IO_MOST bytes, and one time in eight fail with EINTR or EAGAIN.  Of
 *   sockets that block only EINTR is told.  SHORT_IO_COUNT names a file into
 *   which the number of calls that were cut short is written at exit.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>

enum { FAIL_ONE_IN = 8 };

static atomic_uint_fast64_t state = 1;
static atomic_ulong cut;
static size_t most = 7;

__attribute__((constructor)) static void begin(void)
{
    const char *seed = getenv("SHORT_IO_SEED"), *bytes = getenv("SHORT_IO_MOST");
    if (seed != NULL)
        state = strtoull(seed, NULL, 10) * 2 + 1;
    if (bytes != NULL)
        most = strtoul(bytes, NULL, 10);
}

__attribute__((destructor)) static void end(void)
{
    const char *path = getenv("SHORT_IO_COUNT");
    FILE *file = path == NULL ? NULL : fopen(path, "w");
    if (file == NULL)
        return;
    fprintf(file, "%lu\n", atomic_load(&cut));
    fclose(file);
}

/* xorshift64: Marsaglia 2003; two threads may draw the same number, which harms nobody. */
static uint64_t draw(void)
{
    uint64_t x = atomic_load(&state);
    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    atomic_store(&state, x);
    return x;
}

/* The size to ask for in place of size; 0: fail, errno is set. */
static size_t shorter(int fd, size_t size, int flags)
{
    int type = 0, saved = errno;
    socklen_t length = sizeof type;
    int known = getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &length);
    errno = saved;
    if (known < 0 || type != SOCK_STREAM || size == 0)
        return size;
    if (draw() % FAIL_ONE_IN == 0) {
        int blocks = !(flags & MSG_DONTWAIT) && !(fcntl(fd, F_GETFL) & O_NONBLOCK);
        errno = blocks || draw() % 2 ? EINTR : EAGAIN;
        atomic_fetch_add(&cut, 1);
        return 0;
    }
    size_t less = 1 + draw() % most;
    if (less >= size)
        return size;
    atomic_fetch_add(&cut, 1);
    return less;
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

ssize_t recv(int fd, void *room, size_t size, int flags)
{
    size_t n = shorter(fd, size, flags);
    return n == 0 && size > 0 ? -1 : REAL(recv)(fd, room, n, flags);
}

ssize_t send(int fd, const void *data, size_t size, int flags)
{
    size_t n = shorter(fd, size, flags);
    return n == 0 && size > 0 ? -1 : REAL(send)(fd, data, n, flags);
}

ssize_t recvfrom(int fd, void *room, size_t size, int flags, struct sockaddr *from, socklen_t *length)
{
    size_t n = shorter(fd, size, flags);
    return n == 0 && size > 0 ? -1 : REAL(recvfrom)(fd, room, n, flags, from, length);
}

ssize_t sendto(int fd, const void *data, size_t size, int flags, const struct sockaddr *to, socklen_t length)
{
    size_t n = shorter(fd, size, flags);
    return n == 0 && size > 0 ? -1 : REAL(sendto)(fd, data, n, flags, to, length);
}
