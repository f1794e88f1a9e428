/* SPDX-License-Identifier: MIT */
/*
 * last_line - where the last line of a process goes that is ended by force
 *
 * DESCRIPTION
 *   faulthandler dumps where every thread is, into a pipe; one line is made of that
 *   (last_words.c) and written where the log goes.  All of it is prepared before, so
 *   that the end, within a signal handler, allocates nothing and waits for nobody.
 *
 * SOURCE
 *   signal-safety(7); faulthandler.register()
 */
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "last_line.h"

enum { TEXT_BYTES = 4000, LINE_BYTES = 4096, DUMP_BYTES = 32768 };

static struct {
    int dumping, dump;
    int fd, target;
    sockd_template how;
    char text[TEXT_BYTES];
} last;

void sockd_last_line_begin(int32_t dumping, int32_t dump)
{
    memset(&last, 0, sizeof last); /* of the parent, in a process that was forked */
    last.dumping = dumping;
    last.dump = dump;
}

int32_t sockd_last_line_set(int32_t fd, int32_t target, const sockd_template *how)
{
    if (how->size < 0 || how->size > TEXT_BYTES)
        return -1;
    last.fd = fd;
    last.target = target;
    memcpy(last.text, how->text, (size_t)how->size);
    last.how = *how;
    last.how.text = last.text;
    return 0;
}

/* Have faulthandler write, if its handler is there; returns how much there is. */
static int32_t dump_into(char *text, size_t room)
{
    struct sigaction found;
    if (sigaction(last.dumping, NULL, &found) < 0 || found.sa_handler == SIG_DFL || found.sa_handler == SIG_IGN)
        return 0;
    sigset_t one;
    sigemptyset(&one);
    sigaddset(&one, last.dumping);
    pthread_sigmask(SIG_UNBLOCK, &one, NULL);
    raise(last.dumping);
    size_t used = 0;
    while (used < room) {
        ssize_t got = read(last.dump, text + used, room - used); /* which does not wait */
        if (got <= 0)
            break;
        used += (size_t)got;
    }
    return (int32_t)used;
}

/* Write, unless that would have to wait. */
static void write_line(const char *line, size_t size)
{
    if (last.target == SOCKD_TARGET_SOCKET) {
        send(last.fd, line, size, MSG_DONTWAIT | MSG_NOSIGNAL);
        return;
    }
    struct pollfd one = {.fd = last.fd, .events = POLLOUT};
    if (poll(&one, 1, 0) == 1 && (one.revents & POLLOUT) && write(last.fd, line, size) < 0)
        return; /* there is no reader */
}

void sockd_last_line_write(const char *signal)
{
    static char dump[DUMP_BYTES], line[LINE_BYTES];
    if (last.target == SOCKD_TARGET_NONE)
        return;
    int32_t dumped = dump_into(dump, sizeof dump);
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    int64_t milliseconds = (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
    int32_t size = sockd_last_words(&last.how, dump, dumped, signal, milliseconds, line, (int32_t)sizeof line);
    if (last.target == SOCKD_TARGET_STREAM && size > 0)
        line[size - 1] = '\n'; /* also of one that was cut */
    write_line(line, (size_t)size);
}
