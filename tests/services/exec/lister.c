/* SPDX-License-Identifier: MIT */
/* Lists what a program was given, one "key value" a line on descriptor 1: descriptors, environment, signals,
 * limits, ids, umask, directory, session.  A C program, for an interpreter changes some of it before it can look. */
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

extern char **environ;

static void limit(const char *name, int kind)
{
    struct rlimit both;
    getrlimit((__rlimit_resource_t)kind, &both);
    printf("limit.%s %lld %lld\n", name, (long long)both.rlim_cur, (long long)both.rlim_max);
}

static void descriptors(void)
{
    DIR *directory = opendir("/proc/self/fd");
    struct dirent *entry;
    while (directory != NULL && (entry = readdir(directory)) != NULL) {
        char target[512], path[300];
        int fd = atoi(entry->d_name);
        if (entry->d_name[0] == '.' || fd == dirfd(directory))
            continue;
        snprintf(path, sizeof path, "/proc/self/fd/%s", entry->d_name);
        ssize_t n = readlink(path, target, sizeof target - 1);
        target[n < 0 ? 0 : n] = '\0';
        printf("fd.%d %s%s\n", fd, target, fcntl(fd, F_GETFL) & O_NONBLOCK ? " non-blocking" : "");
    }
}

static void status(void)
{
    static const char *const keys[] = {"Uid:", "Gid:", "Groups:", "SigBlk:", "SigIgn:", "SigCgt:", "NoNewPrivs:", "CapPrm:", "CapEff:", "CapAmb:"};
    char line[4096];
    FILE *file = fopen("/proc/self/status", "r");
    while (file != NULL && fgets(line, sizeof line, file) != NULL)
        for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++)
            if (strncmp(line, keys[i], strlen(keys[i])) == 0)
                printf("status.%s", line);
}

int main(int argc, char **argv)
{
    char directory[512];
    descriptors(); /* first, for what follows opens files */
    for (int i = 0; i < argc; i++)
        printf("argv.%d %s\n", i, argv[i]);
    for (char **entry = environ; *entry != NULL; entry++)
        printf("env.%s\n", *entry);
    status();
    limit("cpu", RLIMIT_CPU);
    limit("memory", RLIMIT_AS);
    limit("files", RLIMIT_NOFILE);
    limit("processes", RLIMIT_NPROC);
    limit("file_size", RLIMIT_FSIZE);
    limit("core", RLIMIT_CORE);
    mode_t mask = umask(0);
    printf("umask %03o\n", (unsigned)mask);
    printf("directory %s\n", getcwd(directory, sizeof directory));
    printf("session %d\n", getsid(0) == getpid());
    printf("group %d\n", getpgrp() == getpid());
    printf("terminal %d\n", open("/dev/tty", O_RDWR) >= 0);
    printf("dumpable %d\n", prctl(PR_GET_DUMPABLE));
    fflush(stdout);
    return 0;
}
