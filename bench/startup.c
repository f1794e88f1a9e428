/* SPDX-License-Identifier: MIT */
/*
 * startup - run a command once, and say what it cost
 *
 * SYNOPSIS
 *     startup FILE COMMAND [ARGUMENT ...]
 *
 * DESCRIPTION
 *     Runs the command with FILE as standard input and no output, and prints its wall and CPU time in microseconds, the
 *     most memory it had in KiB, and its exit code.  It is C because the peak of a child (ru_maxrss of getrusage(2)) is
 *     at first that of the process which forked it.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static long microseconds(struct timeval time)
{
    return time.tv_sec * 1000000L + time.tv_usec;
}

int main(int argc, char **argv)
{
    struct timespec begun, ended;
    struct rusage used;
    int status, null = open("/dev/null", O_WRONLY), input;
    if (argc < 3 || null < 0 || (input = open(argv[1], O_RDONLY)) < 0)
        return 64;
    clock_gettime(CLOCK_MONOTONIC, &begun);
    pid_t child = fork();
    if (child == 0) {
        dup2(input, 0);
        dup2(null, 1);
        dup2(null, 2);
        execvp(argv[2], argv + 2);
        _exit(127);
    }
    if (child < 0 || wait4(child, &status, 0, &used) != child)
        return 71;
    clock_gettime(CLOCK_MONOTONIC, &ended);
    long wall = (ended.tv_sec - begun.tv_sec) * 1000000L + (ended.tv_nsec - begun.tv_nsec) / 1000;
    printf("%ld %ld %ld %d\n", wall, microseconds(used.ru_utime) + microseconds(used.ru_stime), used.ru_maxrss,
           WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
    return 0;
}
