/* SPDX-License-Identifier: MIT */
/*
 * stop_bound - a stop ends in time, whatever the interpreter is at
 *
 * DESCRIPTION
 *   Python's own handlers of TERM, INT and QUIT note the signal, and the loop acts on
 *   it.  A loop that is held up, by a handler that never returns, by C code that keeps
 *   the interpreter's lock, by a lock that nobody gives back, acts never.  So handlers
 *   of ours are put before Python's: they call these, and set a timer of the kernel's.
 *   The first TERM allows an orderly stop its time, the second one, an INT and a QUIT
 *   0.8 s.  Nothing takes the timer back: who ends before is not there any more.
 *
 *   When it fires, one more line is written where the log goes (last_line.c), and the
 *   process ends by the signal that asked for it.  All of that is safe within a signal
 *   handler.
 *
 *   A worker whose supervisor has died (sockd_stop_orphaned) lets go of the listening
 *   sockets by the same timer, for as long as one is open nobody else can bind.
 *
 * BUGS
 *   Without POSIX timers (macOS, OpenBSD) there is no such bound.  Where they cannot be
 *   sent to one thread (NetBSD) another one may be taken for the main thread.
 *
 * SOURCE
 *   signal-safety(7), timer_create(2), sigaction(2), prctl(2), pid_namespaces(7)
 */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>
#ifdef __linux__
#include <sys/prctl.h>
#include <sys/syscall.h>
#endif

#include "last_line.h"

/* <cffi> */
/* Begin, in the main thread; again in a process that was forked.  TERM, INT and QUIT have handlers of Python's.
 *
 * alarm, dumping, orphaned: our signals: that of the timer, that on which faulthandler dumps, and that for the
 * parent's end.  dump: where faulthandler writes to.  urgent, allowed: seconds after a second signal, and after the
 * first TERM.  Returns 0, or -1 and errno: there is no timer. */
int32_t sockd_stop_begin(int32_t alarm, int32_t dumping, int32_t orphaned, int32_t dump, double urgent, double allowed);

/* Be the first handler of TERM, INT and QUIT again, before whatever is it now. */
void sockd_stop_reclaim(void);

/* These are children that are bound as well: a second signal is passed on to them at once, as QUIT.  A process is to be
 * taken out before it is waited for, lest its number is another's.  Returns 0, or -1: there are too many. */
int32_t sockd_stop_children(const int32_t *children, int32_t count);

/* What the first TERM, or the end of the parent, allows: seconds. */
void sockd_stop_allow(double seconds);

/* End by force in so many seconds from now, in place of what was set before, unless a second signal has come. */
void sockd_stop_within(double seconds);

/* As if a second signal had come. */
void sockd_stop_at_once(void);

/* Only the end of the interpreter itself is left: a process that was stopped gracefully exits with this code when
 * its time is over, because nothing of ours delayed it. */
void sockd_stop_over(int32_t code);

/* Where the last line goes, a descriptor, and how it is written; all is copied but the template's two file names.
 * Returns 0, or -1: the template is too long. */
int32_t sockd_stop_set_target(int32_t fd, int32_t target, const sockd_template *how);

/* Signal the end of the parent, and replace these listening sockets by another descriptor if they are still open
 * `patience` seconds later.  Returns 0, or -1: the parent has exited already, or that is not possible. */
int32_t sockd_stop_orphaned(const int32_t *sockets, int32_t count, int32_t other, int32_t parent, double patience);
/* </cffi> */

enum { MOST_SOCKETS = 1024, MOST_CHILDREN = 4096 };

static const int ASKING[] = {SIGTERM, SIGINT, SIGQUIT};
static const int FAULTS[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT};
enum { ASKING_COUNT = 3, FAULTS_COUNT = 5 };

struct kept {
    int fd;
    dev_t device;
    ino_t inode;
};

static struct {
    pid_t owner;
    int alarm, orphaned;
    void (*volatile python[ASKING_COUNT])(int);
    volatile sig_atomic_t asked;     /* the last signal that did */
    volatile sig_atomic_t has_come;  /* whether a TERM has */
    volatile sig_atomic_t is_urgent;
    volatile sig_atomic_t is_ending;
    volatile sig_atomic_t is_over, code;
    volatile double urgent, allowed;
    volatile int64_t end_at, let_go_at; /* by the monotonic clock, in nanoseconds; 0 for never */
    double patience;
    int other, kept_count;
    struct kept kept[MOST_SOCKETS];
    int child_count;
    pid_t children[MOST_CHILDREN];
#ifdef _POSIX_TIMERS
    timer_t timer;
#endif
} bound;

/* ---- time */

static int64_t nanoseconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* Set the timer to the earliest deadline. */
static void set_timer(void)
{
#ifdef _POSIX_TIMERS
    int64_t end = bound.end_at, let_go = bound.let_go_at;
    int64_t due = end == 0 || (let_go != 0 && let_go < end) ? let_go : end;
    struct itimerspec when = {.it_value = {.tv_sec = (time_t)(due / 1000000000), .tv_nsec = (long)(due % 1000000000)}};
    timer_settime(bound.timer, TIMER_ABSTIME, &when, NULL);
#endif
}

static int64_t from_now(double seconds)
{
    return nanoseconds() + (int64_t)(seconds * 1e9);
}

static void end_within(double seconds)
{
    int64_t end = from_now(seconds);
    if (bound.end_at == 0 || end < bound.end_at)
        bound.end_at = end;
    set_timer();
}

/* ---- the end */

static const char *name_of(int number)
{
    return number == SIGINT ? "INT" : number == SIGQUIT ? "QUIT" : "TERM";
}

/* Die by the signal, without a core; where that does not kill, as process 1 of a namespace, by the exit code. */
static void end(int number)
{
    struct sigaction plain = {.sa_handler = SIG_DFL};
    sigset_t one;
    sigemptyset(&plain.sa_mask);
    sigemptyset(&one);
    sigaddset(&one, number);
#ifdef __linux__
    prctl(PR_SET_DUMPABLE, 0UL, 0UL, 0UL, 0UL);
#endif
    struct rlimit none = {0, 0};
    setrlimit(RLIMIT_CORE, &none);
    sigaction(number, &plain, NULL);
    pthread_sigmask(SIG_UNBLOCK, &one, NULL);
    raise(number);
    _exit(128 + number);
}

static int asked_for(void)
{
    return bound.asked != 0 ? (int)bound.asked : SIGTERM;
}

static void on_fault(int number)
{
    (void)number;
    end(asked_for()); /* other threads run on while they are dumped */
}

static void guard(void)
{
    struct sigaction action = {.sa_handler = on_fault};
    sigemptyset(&action.sa_mask);
    for (int i = 0; i < FAULTS_COUNT; i++)
        sigaction(FAULTS[i], &action, NULL);
}

/* ---- signals */

/* Put another descriptor in the place of the listening sockets that are open still: a number is not used anew. */
static void let_go(void)
{
    for (int i = 0; i < bound.kept_count; i++) {
        struct stat found;
        const struct kept *one = &bound.kept[i];
        if (fstat(one->fd, &found) == 0 && found.st_dev == one->device && found.st_ino == one->inode)
            dup2(bound.other, one->fd);
    }
}

static void on_alarm(int number)
{
    (void)number;
    int error = errno;
    if (getpid() != bound.owner)
        return;
    int64_t now = nanoseconds();
    if (bound.let_go_at != 0 && now >= bound.let_go_at) {
        bound.let_go_at = 0;
        let_go();
    }
    if (bound.end_at == 0 || now < bound.end_at) {
        set_timer();
        errno = error;
        return;
    }
    if (bound.is_over)
        _exit((int)bound.code);
    if (!bound.is_ending) {
        bound.is_ending = 1;
        guard();
        sockd_last_line_write(name_of(asked_for()));
    }
    end(asked_for());
}

/* Once: allow no more than what a second signal does, here and in the children. */
static void be_urgent(void)
{
    if (bound.is_urgent)
        return;
    bound.is_urgent = 1;
    for (int i = 0; i < bound.child_count; i++)
        kill(bound.children[i], SIGQUIT);
    end_within(bound.urgent);
}

static void on_orphaned(int number)
{
    (void)number;
    int error = errno;
    if (getpid() == bound.owner) {
        bound.let_go_at = from_now(bound.patience);
        if (bound.has_come)
            be_urgent(); /* it was stopped, and has not waited for us: nothing else waits either */
        else
            end_within(bound.allowed);
    }
    errno = error;
}

static void on_asked(int number)
{
    int error = errno;
    if (getpid() != bound.owner) { /* a process that a handler has forked: nothing there acts on recorded signals */
        signal(number, SIG_DFL);
        raise(number);
        return;
    }
    bound.asked = number;
    if (number == SIGTERM && !bound.has_come && !bound.is_urgent) {
        bound.has_come = 1;
        end_within(bound.allowed);
    } else {
        be_urgent();
    }
    for (int i = 0; i < ASKING_COUNT; i++)
        if (ASKING[i] == number && bound.python[i] != NULL)
            bound.python[i](number);
    errno = error;
}

/* ---- set up */

static int handle(int number, void (*handler)(int))
{
    struct sigaction action = {.sa_handler = handler, .sa_flags = SA_RESTART};
    sigemptyset(&action.sa_mask);
    return sigaction(number, &action, NULL);
}

/* Block our handlers while their data is written: the important ones run in this thread. */
static void hold(sigset_t *before)
{
    sigset_t ours;
    sigemptyset(&ours);
    for (int i = 0; i < ASKING_COUNT; i++)
        sigaddset(&ours, ASKING[i]);
    sigaddset(&ours, bound.alarm);
    sigaddset(&ours, bound.orphaned);
    pthread_sigmask(SIG_BLOCK, &ours, before);
}

static void restore_mask(const sigset_t *before)
{
    pthread_sigmask(SIG_SETMASK, before, NULL);
}

static int make_timer(int number)
{
#ifdef _POSIX_TIMERS
    struct sigevent event;
    memset(&event, 0, sizeof event);
    event.sigev_signo = number;
#if defined(__linux__) && defined(SIGEV_THREAD_ID)
#ifndef sigev_notify_thread_id
#define sigev_notify_thread_id _sigev_un._tid
#endif
    event.sigev_notify = SIGEV_THREAD_ID;
    event.sigev_notify_thread_id = (pid_t)syscall(SYS_gettid);
#else
    event.sigev_notify = SIGEV_SIGNAL;
#endif
    return timer_create(CLOCK_MONOTONIC, &event, &bound.timer);
#else
    (void)number;
    errno = ENOSYS;
    return -1;
#endif
}

int32_t sockd_stop_begin(int32_t alarm, int32_t dumping, int32_t orphaned, int32_t dump, double urgent, double allowed)
{
    memset(&bound, 0, sizeof bound); /* of the parent, in a process that was forked */
    bound.alarm = alarm;
    bound.orphaned = orphaned;
    bound.urgent = urgent;
    bound.allowed = allowed;
    sockd_last_line_begin(dumping, dump);
    if (make_timer(alarm) < 0)
        return -1;
    bound.owner = getpid();
    handle(alarm, on_alarm);
    sockd_stop_reclaim();
    return 0;
}

void sockd_stop_reclaim(void)
{
    sigset_t before;
    if (bound.owner != getpid())
        return;
    hold(&before);
    for (int i = 0; i < ASKING_COUNT; i++) {
        struct sigaction found;
        if (sigaction(ASKING[i], NULL, &found) < 0 || found.sa_handler == on_asked)
            continue;
        int is_other = found.sa_handler != SIG_DFL && found.sa_handler != SIG_IGN && !(found.sa_flags & SA_SIGINFO);
        bound.python[i] = is_other ? found.sa_handler : NULL;
        handle(ASKING[i], on_asked);
    }
    handle(bound.alarm, on_alarm);
    restore_mask(&before);
}

void sockd_stop_allow(double seconds)
{
    bound.allowed = seconds;
}

void sockd_stop_within(double seconds)
{
    sigset_t before;
    if (bound.owner != getpid())
        return;
    hold(&before);
    if (!bound.is_urgent) {
        bound.end_at = from_now(seconds);
        set_timer();
    }
    restore_mask(&before);
}

void sockd_stop_at_once(void)
{
    sigset_t before;
    if (bound.owner != getpid())
        return;
    hold(&before);
    be_urgent();
    restore_mask(&before);
}

void sockd_stop_over(int32_t code)
{
    bound.code = code;
    bound.is_over = 1;
}

int32_t sockd_stop_children(const int32_t *children, int32_t count)
{
    sigset_t before;
    if (bound.owner != getpid())
        return 0;
    if (count < 0 || count > MOST_CHILDREN)
        return -1;
    hold(&before);
    for (int i = 0; i < count; i++)
        bound.children[i] = (pid_t)children[i];
    bound.child_count = count;
    restore_mask(&before);
    return 0;
}

int32_t sockd_stop_set_target(int32_t fd, int32_t target, const sockd_template *how)
{
    sigset_t before;
    hold(&before);
    int32_t set = sockd_last_line_set(fd, target, how);
    restore_mask(&before);
    return set;
}

int32_t sockd_stop_orphaned(const int32_t *sockets, int32_t count, int32_t other, int32_t parent, double patience)
{
    sigset_t before;
    if (bound.owner != getpid())
        return -1;
    hold(&before);
    bound.other = other;
    bound.patience = patience;
    bound.kept_count = 0;
    for (int i = 0; i < count && bound.kept_count < MOST_SOCKETS; i++) {
        struct stat found;
        if (fstat(sockets[i], &found) == 0)
            bound.kept[bound.kept_count++] = (struct kept){sockets[i], found.st_dev, found.st_ino};
    }
    handle(bound.orphaned, on_orphaned);
    restore_mask(&before);
#ifdef __linux__
    if (prctl(PR_SET_PDEATHSIG, (unsigned long)bound.orphaned, 0UL, 0UL, 0UL) == 0 && getppid() == (pid_t)parent)
        return 0;
#else
    (void)parent;
#endif
    return -1;
}
