/* SPDX-License-Identifier: MIT */
/*
 * spawn - start a program with nothing but what it is to inherit
 *
 * DESCRIPTION
 *   sockd_spawn() makes a process by vfork(2): no page table is copied, so that a
 *   start costs the same however large the daemon is, and no lock of another
 *   thread can be held in the child, for the child calls nothing that takes one.
 *   Everything it needs is prepared by the caller.  It runs in the caller's
 *   memory until execve(2), hence:
 *
 *     - every signal is blocked before it begins and unblocked in it only once
 *       no handler of ours is left;
 *     - ids are changed by the system calls themselves, for those of the C
 *       library change them in every thread they find, which are the caller's
 *       (nptl(7));
 *     - it tells what failed by writing into the caller's variables.
 *
 * DIAGNOSTICS
 *   The process number; or -1, *step is what failed (enum sockd_spawn_step) and
 *   errno why.  A system whose vfork(2) is fork(2) cannot tell: the child then
 *   ends with exit code 127, as a shell's does.
 *
 * BUGS
 *   The caller waits until execve(2) has read the program, which may be on a disk
 *   that is slow, or of another host.
 *
 * SOURCE
 *   vfork(2), posix_spawn(3), credentials(7), seccomp(2), signal(7), close_range(2)
 */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>
#ifdef __linux__
#include <sys/prctl.h>
#include <sys/syscall.h>
#endif

/* <cffi> */
enum sockd_spawn_step {
    SOCKD_SPAWN_PROCESS = 0,
    SOCKD_SPAWN_SESSION = 1,
    SOCKD_SPAWN_DESCRIPTORS = 2,
    SOCKD_SPAWN_DIRECTORY = 3,
    SOCKD_SPAWN_LIMIT = 4,
    SOCKD_SPAWN_GROUPS = 5,
    SOCKD_SPAWN_GROUP = 6,
    SOCKD_SPAWN_USER = 7,
    SOCKD_SPAWN_PROGRAM = 8,
    SOCKD_SPAWN_PRIORITY = 9
};

typedef struct sockd_limit {
    int64_t resource; /* RLIMIT_* */
    int64_t soft;     /* -1: without limit */
    int64_t hard;
} sockd_limit;

typedef struct sockd_command {
    const char *path;
    char *const *argv; /* ended by NULL, as the next one */
    char *const *environment;
    const char *directory;     /* to run in */
    int32_t descriptors[3]; /* of the caller's, all above 2: they become 0, 1 and 2, everything else is closed */
    int32_t umask;
    int32_t changes_nice; /* 1: the next one is set */
    int32_t nice;
    int32_t limit_count;
    int32_t changes_user;   /* 1: groups, gid and uid are taken on */
    int32_t group_count;
    uint32_t gid;
    uint32_t uid;
    const uint32_t *groups; /* in ascending order */
    uint32_t *found_groups; /* room for group_count: what the kernel then says */
    const sockd_limit *limits;
} sockd_command;

/* Execute a program in a session of its own: signals default and unblocked,
 * umask, directory, priority and limits as given.  Returns as said above. */
int32_t sockd_spawn(const sockd_command *command, int32_t *step);

/* prctl(2) of one option and one value, which os of Python lacks.  Returns 0, or -1 with errno; ENOSYS elsewhere than
 * on Linux. */
int32_t sockd_prctl(int32_t option, uint64_t value);
/* </cffi> */

#ifdef __GLIBC__
typedef __rlimit_resource_t resource_kind;
#else
typedef int resource_kind;
#endif

enum { FIRST_OTHER = 3, EXIT_NOT_STARTED = 127, SIGNALS = 65 };

_Static_assert(sizeof(gid_t) == sizeof(uint32_t) && sizeof(uid_t) == sizeof(uint32_t), "ids have 32 bits");

/* ---- what only changes the calling thread, which is all there is of the child
 *
 * A call that succeeds may have done nothing, under a filter of system calls (seccomp(2)): so the kernel is asked
 * whom it takes us for. */

static int not_applied(void)
{
    errno = EPERM;
    return -1;
}

static int apply_groups(const sockd_command *command)
{
    const gid_t *groups = (const gid_t *)command->groups;
    gid_t *found = (gid_t *)command->found_groups;
    int count = command->group_count;
#if defined(__linux__)
#ifdef SYS_setgroups32
    long result = syscall(SYS_setgroups32, (size_t)count, groups);
#else
    long result = syscall(SYS_setgroups, (size_t)count, groups);
#endif
    if (result < 0)
        return -1;
    int same = getgroups(count, found) == count; /* which Linux keeps in ascending order */
    for (int i = 0; same && i < count; i++)
        same = found[i] == groups[i];
    return same ? 0 : not_applied();
#else
    (void)found; /* elsewhere the group itself is among them */
    return setgroups(count, groups);
#endif
}

static int apply_gid(gid_t gid)
{
#if defined(__linux__)
#ifdef SYS_setresgid32
    long result = syscall(SYS_setresgid32, gid, gid, gid);
#else
    long result = syscall(SYS_setresgid, gid, gid, gid);
#endif
    gid_t real, effective, saved;
    if (result < 0 || getresgid(&real, &effective, &saved) < 0)
        return -1;
    return real == gid && effective == gid && saved == gid ? 0 : not_applied();
#else
    if (setgid(gid) < 0)
        return -1;
    return getgid() == gid && getegid() == gid ? 0 : not_applied();
#endif
}

static int apply_uid(uid_t uid)
{
#if defined(__linux__)
#ifdef SYS_setresuid32
    long result = syscall(SYS_setresuid32, uid, uid, uid);
#else
    long result = syscall(SYS_setresuid, uid, uid, uid);
#endif
    uid_t real, effective, saved;
    if (result < 0 || getresuid(&real, &effective, &saved) < 0)
        return -1;
    return real == uid && effective == uid && saved == uid ? 0 : not_applied();
#else
    if (setuid(uid) < 0)
        return -1;
    return getuid() == uid && geteuid() == uid ? 0 : not_applied();
#endif
}

/* ---- the child */

static void close_others(void)
{
#if defined(__linux__) && defined(SYS_close_range)
    if (syscall(SYS_close_range, (unsigned)FIRST_OTHER, ~0U, 0U) == 0)
        return;
#endif
    struct rlimit files; /* before Linux 5.9 */
    int end = getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_cur < 65536 ? (int)files.rlim_cur : 65536;
    for (int fd = FIRST_OTHER; fd < end; fd++)
        close(fd);
}

static int put_descriptors(const sockd_command *command)
{
    for (int i = 0; i < FIRST_OTHER; i++)
        if (dup2(command->descriptors[i], i) < 0)
            return -1;
    close_others();
    return 0;
}

static int set_limits(const sockd_command *command)
{
    for (int i = 0; i < command->limit_count; i++) {
        const sockd_limit *limit = &command->limits[i];
        struct rlimit both = {
            .rlim_cur = limit->soft < 0 ? RLIM_INFINITY : (rlim_t)limit->soft,
            .rlim_max = limit->hard < 0 ? RLIM_INFINITY : (rlim_t)limit->hard,
        };
        if (setrlimit((resource_kind)limit->resource, &both) < 0)
            return -1;
    }
    return 0;
}

/* What a daemon that is not root was given to bind its ports is not the program's (capabilities(7)). */
static void drop_ambient_capabilities(void)
{
#ifdef PR_CAP_AMBIENT
    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0UL, 0UL, 0UL); /* before Linux 4.3 there are none */
#endif
}

/* KILL and STOP are refused; so are, by sigaction(3), the C library's own two, 32 and 33, which whatever
 * posix_spawn(3) starts finds ignored, make's commands for one: hence the system call, for which zeros are SIG_DFL. */
static void set_default(int number)
{
#ifdef __linux__
    static const uint64_t zeros[8];
    syscall(SYS_rt_sigaction, number, zeros, NULL, (size_t)(SIGNALS / 8));
#else
    struct sigaction plain = {.sa_handler = SIG_DFL};
    sigemptyset(&plain.sa_mask);
    sigaction(number, &plain, NULL);
#endif
}

/* Those that were ignored stay so through execve(2) unless they are set back (FAQ II.19). */
static void reset_signals(void)
{
    sigset_t none;
    sigemptyset(&none);
    for (int number = 1; number < SIGNALS; number++)
        set_default(number);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

/* Returns the step that failed; never when the program runs.  Limits and priority come
 * before ids: root alone raises one. */
static enum sockd_spawn_step become(const sockd_command *command)
{
    if (setsid() < 0)
        return SOCKD_SPAWN_SESSION;
    if (put_descriptors(command) < 0)
        return SOCKD_SPAWN_DESCRIPTORS;
    umask((mode_t)command->umask);
    if (set_limits(command) < 0)
        return SOCKD_SPAWN_LIMIT;
    if (command->changes_nice && setpriority(PRIO_PROCESS, 0, command->nice) < 0)
        return SOCKD_SPAWN_PRIORITY;
    if (command->changes_user) {
        if (apply_groups(command) < 0)
            return SOCKD_SPAWN_GROUPS;
        if (apply_gid((gid_t)command->gid) < 0)
            return SOCKD_SPAWN_GROUP;
        if (apply_uid((uid_t)command->uid) < 0)
            return SOCKD_SPAWN_USER;
    }
    drop_ambient_capabilities();
    if (chdir(command->directory) < 0)
        return SOCKD_SPAWN_DIRECTORY;
    reset_signals();
    execve(command->path, command->argv, command->environment);
    return SOCKD_SPAWN_PROGRAM;
}

int32_t sockd_spawn(const sockd_command *command, int32_t *step)
{
    volatile int failed = -1, error = 0;
    sigset_t every, before;
    sigfillset(&every);
    pthread_sigmask(SIG_BLOCK, &every, &before);
    pid_t child = vfork();
    if (child == 0) {
        failed = (int)become(command);
        error = errno;
        _exit(EXIT_NOT_STARTED);
    }
    if (child < 0) {
        failed = SOCKD_SPAWN_PROCESS;
        error = errno;
    }
    int started = failed < 0;
    if (child > 0 && !started)
        while (waitpid(child, NULL, 0) < 0 && errno == EINTR)
            ;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (started)
        return (int32_t)child;
    *step = failed;
    errno = error;
    return -1;
}

int32_t sockd_prctl(int32_t option, uint64_t value)
{
#ifdef __linux__
    return prctl(option, (unsigned long)value, 0UL, 0UL, 0UL) < 0 ? -1 : 0;
#else
    (void)option;
    (void)value;
    errno = ENOSYS;
    return -1;
#endif
}
