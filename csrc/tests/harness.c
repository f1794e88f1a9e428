/* SPDX-License-Identifier: MIT */
#include "harness.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#if SB_HAS_EPOLL
#include <sys/epoll.h>
#endif

static int failures; /* of the test that runs */
static int soaking;

void check(int is_true, const char *what, const char *file, int line)
{
    if (is_true)
        return;
    if (failures++ < 40)
        printf("# %s:%d: %s\n", file, line, what);
}

void check_number(long long got, long long want, const char *what, const char *file, int line)
{
    if (got == want)
        return;
    if (failures++ < 40)
        printf("# %s:%d: %s is %lld, not %lld\n", file, line, what, got, want);
}

void check_text(const char *got, const char *want, const char *what, const char *file, int line)
{
    if (strcmp(got, want) == 0)
        return;
    if (failures++ < 40)
        printf("# %s:%d: %s is \"%s\", not \"%s\"\n", file, line, what, got, want);
}

int check_failures(void)
{
    return failures;
}

int rounds(int few, int many)
{
    return soaking ? many : few;
}

static uint64_t random_state = 1;

uint32_t random_below(uint32_t bound)
{
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(random_state >> 33) % bound;
}

enum { EDGE = 1 << 20 };

void *__real_mmap(void *at, size_t size, int protection, int flags, int fd, off_t offset);

/* EDGE bytes between two pages that cannot be touched. */
static char *fenced(void)
{
    static char *memory;
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    if (memory != NULL)
        return memory + page;
    memory = __real_mmap(NULL, EDGE + 2 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED || mprotect(memory + page, EDGE, PROT_READ | PROT_WRITE) < 0)
        abort();
    return memory + page;
}

static char *copy_to(char *place, const void *data, size_t size)
{
    if (size > EDGE)
        abort();
    if (size > 0)
        memcpy(place, data, size);
    return place;
}

char *at_edge(const void *data, size_t size)
{
    return copy_to(fenced() + EDGE - size, data, size);
}

char *behind_edge(const void *data, size_t size)
{
    return copy_to(fenced(), data, size);
}

char *at_an_edge(const void *data, size_t size)
{
    static int times;
    return times++ & 1 ? at_edge(data, size) : behind_edge(data, size);
}

static int64_t clock_offset_ms, passing_ms, sending_ms;

/* ---- faults */

static struct plan {
    int countdown, error;
    size_t cap;
} plans[CALLS];
static int fired;

void fail_nth(enum call call, int nth, int error)
{
    plans[call].countdown = nth;
    plans[call].error = error;
}

void cap_size(enum call call, size_t size)
{
    plans[call].cap = size;
}

int faults_clear(void)
{
    int did = fired;
    memset(plans, 0, sizeof plans);
    fired = 0;
    return did;
}

static int fails(enum call call)
{
    if (plans[call].countdown == 0 || --plans[call].countdown > 0)
        return 0;
    fired = 1;
    errno = plans[call].error;
    return 1;
}

static size_t capped(enum call call, size_t size)
{
    return plans[call].cap > 0 && plans[call].cap < size ? plans[call].cap : size;
}

int __real_socket(int family, int type, int protocol);
int __wrap_socket(int family, int type, int protocol);
int __wrap_socket(int family, int type, int protocol)
{
    return fails(CALL_SOCKET) ? -1 : __real_socket(family, type, protocol);
}

int __real_connect(int fd, const struct sockaddr *name, socklen_t size);
int __wrap_connect(int fd, const struct sockaddr *name, socklen_t size);
int __wrap_connect(int fd, const struct sockaddr *name, socklen_t size)
{
    return fails(CALL_CONNECT) ? -1 : __real_connect(fd, name, size);
}

int __real_getpeername(int fd, struct sockaddr *name, socklen_t *size);
int __wrap_getpeername(int fd, struct sockaddr *name, socklen_t *size);
int __wrap_getpeername(int fd, struct sockaddr *name, socklen_t *size)
{
    return fails(CALL_GETPEERNAME) ? -1 : __real_getpeername(fd, name, size);
}

void *__real_malloc(size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_malloc(size_t size)
{
    return fails(CALL_ALLOCATE) ? NULL : __real_malloc(size);
}

void *__real_calloc(size_t count, size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_calloc(size_t count, size_t size)
{
    return fails(CALL_ALLOCATE) ? NULL : __real_calloc(count, size);
}

void *__real_realloc(void *memory, size_t size);
void *__wrap_realloc(void *memory, size_t size);
void *__wrap_realloc(void *memory, size_t size)
{
    return fails(CALL_ALLOCATE) ? NULL : __real_realloc(memory, size);
}

void *__wrap_mmap(void *at, size_t size, int protection, int flags, int fd, off_t offset);
void *__wrap_mmap(void *at, size_t size, int protection, int flags, int fd, off_t offset)
{
    return fails(CALL_MMAP) ? MAP_FAILED : __real_mmap(at, size, protection, flags, fd, offset);
}

ssize_t __real_recv(int fd, void *data, size_t size, int flags);
ssize_t __wrap_recv(int fd, void *data, size_t size, int flags);
ssize_t __wrap_recv(int fd, void *data, size_t size, int flags)
{
    return fails(CALL_RECV) ? -1 : __real_recv(fd, data, capped(CALL_RECV, size), flags);
}

/* Of the pieces of a message, as many bytes as a call may move. */
static struct msghdr shortened(enum call call, const struct msghdr *message, struct iovec pieces[64])
{
    struct msghdr less = *message;
    size_t left = capped(call, SIZE_MAX), n = 0, count = (size_t)message->msg_iovlen;
    check(count <= 64, "no more than 64 pieces", __FILE__, __LINE__);
    for (; n < count && left > 0; n++) {
        pieces[n] = message->msg_iov[n];
        pieces[n].iov_len = pieces[n].iov_len < left ? pieces[n].iov_len : left;
        left -= pieces[n].iov_len;
    }
    less.msg_iov = pieces;
    less.msg_iovlen = (unsigned char)n;
    return less;
}

ssize_t __real_recvmsg(int fd, struct msghdr *message, int flags);
ssize_t __wrap_recvmsg(int fd, struct msghdr *message, int flags);
ssize_t __wrap_recvmsg(int fd, struct msghdr *message, int flags)
{
    struct iovec pieces[64];
    struct msghdr less = shortened(CALL_RECV, message, pieces);
    ssize_t n = fails(CALL_RECV) ? -1 : __real_recvmsg(fd, &less, flags);
    message->msg_namelen = less.msg_namelen;
    message->msg_controllen = less.msg_controllen;
    message->msg_flags = less.msg_flags;
    return n;
}

#if SB_HAS_MMSG
int __real_recvmmsg(int fd, struct mmsghdr *messages, unsigned count, int flags, struct timespec *timeout);
int __wrap_recvmmsg(int fd, struct mmsghdr *messages, unsigned count, int flags, struct timespec *timeout);
int __wrap_recvmmsg(int fd, struct mmsghdr *messages, unsigned count, int flags, struct timespec *timeout)
{
    return fails(CALL_RECV) ? -1 : __real_recvmmsg(fd, messages, count, flags, timeout);
}

int __real_sendmmsg(int fd, struct mmsghdr *messages, unsigned count, int flags);
int __wrap_sendmmsg(int fd, struct mmsghdr *messages, unsigned count, int flags);
int __wrap_sendmmsg(int fd, struct mmsghdr *messages, unsigned count, int flags)
{
    check((flags & MSG_NOSIGNAL) != 0, "sendmmsg with MSG_NOSIGNAL", __FILE__, __LINE__);
    return fails(CALL_SENDMSG) ? -1 : __real_sendmmsg(fd, messages, count, flags);
}
#endif

int __real_ioctl(int fd, unsigned long request, int *n);
int __wrap_ioctl(int fd, unsigned long request, int *n);
int __wrap_ioctl(int fd, unsigned long request, int *n)
{
    return fails(CALL_IOCTL) ? -1 : __real_ioctl(fd, request, n);
}

ssize_t __real_send(int fd, const void *data, size_t size, int flags);
ssize_t __wrap_send(int fd, const void *data, size_t size, int flags);
ssize_t __wrap_send(int fd, const void *data, size_t size, int flags)
{
    check(!SB_HAS_NOSIGNAL || (flags & MSG_NOSIGNAL) != 0, "send with MSG_NOSIGNAL", __FILE__, __LINE__);
    clock_offset_ms += sending_ms;
    return fails(CALL_SEND) ? -1 : __real_send(fd, data, capped(CALL_SEND, size), flags);
}

ssize_t __real_sendmsg(int fd, const struct msghdr *message, int flags);
ssize_t __wrap_sendmsg(int fd, const struct msghdr *message, int flags);
ssize_t __wrap_sendmsg(int fd, const struct msghdr *message, int flags)
{
    check(!SB_HAS_NOSIGNAL || (flags & MSG_NOSIGNAL) != 0, "sendmsg with MSG_NOSIGNAL", __FILE__, __LINE__);
    if (fails(CALL_SENDMSG))
        return -1;
    struct iovec pieces[64];
    struct msghdr less = shortened(CALL_SENDMSG, message, pieces);
    return __real_sendmsg(fd, &less, flags);
}

ssize_t __real_read(int fd, void *data, size_t size);
ssize_t __wrap_read(int fd, void *data, size_t size);
ssize_t __wrap_read(int fd, void *data, size_t size)
{
    return fails(CALL_READ) ? -1 : __real_read(fd, data, capped(CALL_READ, size));
}

ssize_t __real_write(int fd, const void *data, size_t size);
ssize_t __wrap_write(int fd, const void *data, size_t size);
ssize_t __wrap_write(int fd, const void *data, size_t size)
{
    return fails(CALL_WRITE) ? -1 : __real_write(fd, data, capped(CALL_WRITE, size));
}

void clock_advance(int64_t ms)
{
    clock_offset_ms += ms;
}

void clock_of_send(int64_t ms)
{
    sending_ms = ms;
}

void clock_pass(int64_t ms)
{
    passing_ms = ms;
}

int64_t clock_left(void)
{
    return passing_ms;
}

int __real_clock_gettime(clockid_t clock, struct timespec *now);

/* How long a wait takes; the clock of the tests stands still but for this, so that a busy machine makes nobody late. */
static int64_t passed_ns;
static struct timespec began;

static int64_t ns_between(const struct timespec *from, const struct timespec *to)
{
    return ((int64_t)to->tv_sec - from->tv_sec) * 1000000000 + to->tv_nsec - from->tv_nsec;
}

static void wait_began(void)
{
    __real_clock_gettime(CLOCK_MONOTONIC, &began);
}

static int wait_ended(int result, int timeout)
{
    struct timespec now;
    int error = errno;
    __real_clock_gettime(CLOCK_MONOTONIC, &now);
    int64_t took = ns_between(&began, &now), max = (int64_t)timeout * 1000000;
    passed_ns += timeout >= 0 && (result == 0 || took > max) ? max : took;
    errno = error;
    return result;
}

/* What is really waited. */
static int waited(int timeout)
{
    wait_began();
    if (passing_ms == 0 || timeout == 0)
        return timeout;
    int64_t step = timeout > 0 && timeout < passing_ms ? timeout : passing_ms;
    clock_offset_ms += step;
    passing_ms -= step;
    return 0;
}

int __real_poll(struct pollfd *fds, nfds_t count, int timeout);
int __wrap_poll(struct pollfd *fds, nfds_t count, int timeout);
int __wrap_poll(struct pollfd *fds, nfds_t count, int timeout)
{
    if (fails(CALL_POLL))
        return -1;
    int left = waited(timeout);
    return wait_ended(__real_poll(fds, count, left), left);
}

int __real_shutdown(int fd, int how);
int __wrap_shutdown(int fd, int how);
int __wrap_shutdown(int fd, int how)
{
    return fails(CALL_SHUTDOWN) ? -1 : __real_shutdown(fd, how);
}

int __wrap_clock_gettime(clockid_t clock, struct timespec *now);
int __wrap_clock_gettime(clockid_t clock, struct timespec *now)
{
    static struct timespec first;
    if (clock != CLOCK_MONOTONIC)
        return __real_clock_gettime(clock, now);
    if (first.tv_sec == 0)
        __real_clock_gettime(clock, &first);
    int64_t ns = first.tv_nsec + passed_ns + clock_offset_ms * 1000000;
    now->tv_sec = first.tv_sec + (time_t)(ns / 1000000000);
    now->tv_nsec = (long)(ns % 1000000000);
    return 0;
}

int64_t clock_now(void)
{
    struct timespec now;
    __wrap_clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

int __real_accept4(int fd, struct sockaddr *peer, socklen_t *size, int flags);
int __wrap_accept4(int fd, struct sockaddr *peer, socklen_t *size, int flags);
int __wrap_accept4(int fd, struct sockaddr *peer, socklen_t *size, int flags)
{
    return fails(CALL_ACCEPT) ? -1 : __real_accept4(fd, peer, size, flags);
}

int __real_accept(int fd, struct sockaddr *peer, socklen_t *size);
int __wrap_accept(int fd, struct sockaddr *peer, socklen_t *size);
int __wrap_accept(int fd, struct sockaddr *peer, socklen_t *size)
{
    return fails(CALL_ACCEPT) ? -1 : __real_accept(fd, peer, size);
}

int __real_fcntl(int fd, int command, ...);
int __wrap_fcntl(int fd, int command, ...);
int __wrap_fcntl(int fd, int command, ...)
{
    va_list arguments;
    va_start(arguments, command);
    int value = command != F_GETFL && command != F_GETFD ? va_arg(arguments, int) : 0;
    va_end(arguments);
    return fails(CALL_FCNTL) ? -1 : __real_fcntl(fd, command, value);
}

int __real_getsockopt(int fd, int level, int option, void *value, socklen_t *size);
int __wrap_getsockopt(int fd, int level, int option, void *value, socklen_t *size);
int __wrap_getsockopt(int fd, int level, int option, void *value, socklen_t *size)
{
    int code = __real_getsockopt(fd, level, option, value, size);
    if (level == SOL_SOCKET && option == SO_ERROR && fails(CALL_SO_ERROR))
        memcpy(value, &errno, sizeof errno);
    return code;
}

#if SB_HAS_EPOLL
int __real_epoll_create1(int flags);
int __wrap_epoll_create1(int flags);
int __wrap_epoll_create1(int flags)
{
    return fails(CALL_EPOLL_CREATE) ? -1 : __real_epoll_create1(flags);
}

int __real_epoll_ctl(int epoll, int operation, int fd, struct epoll_event *event);
int __wrap_epoll_ctl(int epoll, int operation, int fd, struct epoll_event *event);
int __wrap_epoll_ctl(int epoll, int operation, int fd, struct epoll_event *event)
{
    return fails(CALL_EPOLL_CTL) ? -1 : __real_epoll_ctl(epoll, operation, fd, event);
}

int __real_epoll_wait(int epoll, struct epoll_event *events, int max, int timeout);
int __wrap_epoll_wait(int epoll, struct epoll_event *events, int max, int timeout);
int __wrap_epoll_wait(int epoll, struct epoll_event *events, int max, int timeout)
{
    if (fails(CALL_EPOLL_WAIT))
        return -1;
    int left = waited(timeout);
    return wait_ended(__real_epoll_wait(epoll, events, max, left), left);
}

ssize_t __real_splice(int in, off64_t *in_at, int out, off64_t *out_at, size_t size, unsigned flags);
ssize_t __wrap_splice(int in, off64_t *in_at, int out, off64_t *out_at, size_t size, unsigned flags);
ssize_t __wrap_splice(int in, off64_t *in_at, int out, off64_t *out_at, size_t size, unsigned flags)
{
    if (!fails(CALL_SPLICE))
        return __real_splice(in, in_at, out, out_at, capped(CALL_SPLICE, size), flags);
    int error = errno;
    if (error == EPIPE)
        raise(SIGPIPE); /* as splice(2) to a socket does, by kernel and kind */
    errno = error;
    return -1;
}

int __real_pipe2(int ends[2], int flags);
int __wrap_pipe2(int ends[2], int flags);
int __wrap_pipe2(int ends[2], int flags)
{
    return fails(CALL_PIPE) ? -1 : __real_pipe2(ends, flags);
}
#endif

/* ---- running */

static int passed, failed, number;

static int is_wanted(const char *name, int argc, char **argv)
{
    int names = 0;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "soak") == 0)
            continue;
        names++;
        if (strncmp(name, argv[i], strlen(argv[i])) == 0)
            return 1;
    }
    return names == 0;
}

static void run(const struct test *tests, int argc, char **argv)
{
    for (const struct test *test = tests; test->name != NULL; test++) {
        if (!is_wanted(test->name, argc, argv))
            continue;
        failures = 0;
        random_state = 1;
        test->run();
        faults_clear();
        printf("%s %d - %s\n", failures == 0 ? "ok" : "not ok", ++number, test->name);
        if (failures == 0)
            passed++;
        else
            failed++;
    }
}

int main(int argc, char **argv)
{
    setvbuf(stdout, NULL, _IOLBF, 0);
    for (int i = 1; i < argc; i++)
        soaking |= strcmp(argv[i], "soak") == 0;
    const struct test *const all[] = {buffer_tests, newline_tests, line_tests, frame_tests,
                                      encode_tests, stream_tests,  mux_tests,  relay_tests,  relay_client_tests,
                                      framing_tests, relay_late_tests, sources_tests, buffer_io_tests, datagram_tests};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        run(all[i], argc, argv);
    printf("1..%d\n%d passed, %d failed\n", number, passed, failed);
    return failed > 0;
}
