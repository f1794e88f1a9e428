/* SPDX-License-Identifier: MIT */
#include "world.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static void rows_run_out(void)
{
    struct world *w = world_of(2, lines_group());
    int a = join(w, 0);
    CHECK(join(w, 0) >= 0);
    CHECK_EQ(join(w, 0), SB_ERR_FULL);
    hang_up(w, a);
    turn(w);
    CHECK_EQ(sb_mux_counts(w->mux)->closed, 1);
    CHECK_EQ(join(w, 0), SB_ERR_FULL); /* its row is kept until the turn is settled */
    learn_changes(w); /* before its descriptor is closed */
    sb_mux_reap(w->mux);
    CHECK_EQ(sb_mux_row(w->mux, join(w, 0)), sb_mux_row(w->mux, a));
    end_of(w);
}

static void accepts(void)
{
    sb_group group = lines_group();
    group.flags = SB_GROUP_ANNOUNCE;
    struct world *w = world_of(3, group);
    struct sockaddr_in address;
    int fd = listener(&address), stopped = 7;
    CHECK_EQ(sb_mux_accept(w->mux, fd, 0, 10, &stopped), 0);
    CHECK_EQ(stopped, 0);
    for (int i = 0; i < 4; i++)
        w->peer[i] = dial(&address);
    CHECK_EQ(sb_mux_accept(w->mux, fd, 0, 1, &stopped), 1);
    CHECK_EQ(stopped, 0);
    CHECK_TEXT(events_of(w), "0 accepted 0 ");
    fail_nth(CALL_ACCEPT, 1, ECONNABORTED);
    CHECK_EQ(sb_mux_accept(w->mux, fd, 0, 2, &stopped), 1);
    CHECK_EQ(stopped, 0);
    static const int shortage[] = {EMFILE, ENFILE, ENOBUFS, ENOMEM, EBADF, EINVAL, ENOTSOCK};
    for (size_t i = 0; i < sizeof shortage / sizeof shortage[0]; i++) {
        fail_nth(CALL_ACCEPT, 1, shortage[i]);
        CHECK_EQ(sb_mux_accept(w->mux, fd, 0, 2, &stopped), 0);
        CHECK_EQ(stopped, shortage[i]);
        CHECK_EQ(sb_mux_errno(w->mux), shortage[i]);
    }
    CHECK_EQ(sb_mux_accept(w->mux, fd, 0, 10, &stopped), 1);
    CHECK_EQ(stopped, SB_ERR_FULL);
    sb_info info;
    CHECK_EQ(sb_mux_info(w->mux, 0, &info), 0);
    CHECK_EQ(info.peer_size, sizeof address);
    CHECK_EQ(sb_mux_info(w->mux, 3, &info), SB_ERR_GONE);
    turn(w);
    sb_mux_abort(w->mux, 0, SB_REASON_ABORTED);
    sb_mux_reap(w->mux);
    CHECK_TEXT(heard(w, 0), "!"); /* RST */
    close(fd);
    end_of(w);
}

static void watches(void)
{
#if SB_HAS_EPOLL
    struct world *w = world_of(3, lines_group());
    int fds[2];
    CHECK_EQ(pipe(fds), 0);
    if (w->epoll) {
        CHECK(sb_mux_fileno(w->mux) >= 0);
        CHECK_EQ(sb_mux_watch(w->mux, fds[0], SB_READ), 0);
        CHECK_EQ(sb_mux_watch(w->mux, fds[1], SB_WRITE), 0);
        CHECK_EQ(sb_mux_turn(w->mux, -1), 1);
        CHECK_EQ(sb_mux_readies(w->mux)[0].fd, fds[1]);
        CHECK_EQ(sb_mux_readies(w->mux)[0].mask, SB_WRITE);
        CHECK_EQ(sb_mux_watch(w->mux, fds[1], SB_READ), 0); /* in its place */
        CHECK_EQ(sb_mux_turn(w->mux, 0), 0);
        CHECK_EQ(sb_mux_watch(w->mux, fds[1], 0), 0);
        CHECK_EQ(sb_mux_watch(w->mux, fds[1], 0), SB_ERR_FAULT); /* no more */
        CHECK_EQ(sb_mux_errno(w->mux), ENOENT);
        CHECK_EQ(write(fds[1], "x", 1), 1);
        CHECK_EQ(sb_mux_turn(w->mux, 1000), 1);
        CHECK_EQ(sb_mux_readies(w->mux)[0].mask, SB_READ);
        close(fds[1]);
        CHECK_EQ(sb_mux_turn(w->mux, 1000), 1);
        CHECK_EQ(sb_mux_watch(w->mux, 9999, SB_READ), SB_ERR_FAULT);
        CHECK_EQ(sb_mux_errno(w->mux), EBADF);
        CHECK_EQ(sb_mux_watch(w->mux, 9999, 0), SB_ERR_FAULT);
        fail_nth(CALL_EPOLL_WAIT, 1, EINTR);
        CHECK_EQ(sb_mux_turn(w->mux, 1000), 0);
        fail_nth(CALL_EPOLL_WAIT, 1, EBADF);
        CHECK_EQ(sb_mux_turn(w->mux, 1000), SB_ERR_FAULT);
        int id = join(w, 0);
        fail_nth(CALL_EPOLL_CTL, 1, ENOMEM);
        CHECK_EQ(join(w, 0), SB_ERR_FAULT);
        fail_nth(CALL_EPOLL_CTL, 1, ENOMEM);
        sb_mux_pause(w->mux, id, 1);
        CHECK_EQ(sb_mux_counts(w->mux)->closed, 1);
    } else {
        CHECK_EQ(sb_mux_fileno(w->mux), -1);
        close(fds[1]);
    }
    close(fds[0]);
    end_of(w);
#else
    sb_mux *mux = sb_mux_new(3, 0);
    CHECK_EQ(sb_mux_watch(mux, 0, SB_READ), SB_ERR_FAULT);
    CHECK_EQ(sb_mux_turn(mux, 0), SB_ERR_FAULT);
    CHECK_EQ(sb_mux_errno(mux), ENOSYS);
    sb_mux_free(mux);
    errno = 0;
    CHECK(sb_mux_new(3, 1) == NULL);
    CHECK_EQ(errno, ENOSYS);
#endif
}

/* What accept(2) brings is non-blocking and closed in children, or it is let go. */
static void accepted_descriptors(void)
{
    struct world *w = world_of(3, lines_group());
    struct sockaddr_in address;
    sb_info info;
    int fd = listener(&address), stopped;
    w->peer[0] = dial(&address);
    CHECK_EQ(sb_mux_accept(w->mux, fd, 0, 1, &stopped), 1);
    CHECK_EQ(sb_mux_info(w->mux, 0, &info), 0);
    CHECK(fcntl(info.fd, F_GETFL) & O_NONBLOCK);
    CHECK_EQ(fcntl(info.fd, F_GETFD), FD_CLOEXEC);
    for (int nth = 1; nth <= 2; nth++) {
        w->peer[1] = dial(&address);
        fail_nth(CALL_FCNTL, nth, EPERM);
        int came = sb_mux_accept(w->mux, fd, 0, 1, &stopped);
        CHECK_EQ(came, !faults_clear()); /* where there is accept4(2) it cannot fail */
        CHECK_EQ(stopped, 0);
        CHECK_TEXT(heard(w, 1), came ? "-" : "$");
        hang_up(w, 1);
    }
    close(fd);
    end_of(w);
}

/* A path is no name that is kept. */
static void peers_with_a_path(void)
{
    struct world *w = world_of(3, lines_group());
    struct sockaddr_un address = {.sun_family = AF_UNIX}, own = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0), stopped;
    socklen_t size = sizeof address;
    CHECK_EQ(bind(fd, (struct sockaddr *)&address, sizeof(sa_family_t)), 0); /* an abstract name of the kernel's */
    CHECK_EQ(getsockname(fd, (struct sockaddr *)&address, &size), 0);
    CHECK_EQ(listen(fd, 4), 0);
    for (int i = 0; i < 2; i++) {
        w->peer[i] = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
        if (i == 1) {
            snprintf(own.sun_path, sizeof own.sun_path, "/tmp/sockbuf-test-of-a-name-longer-than-most.%ld", (long)getpid());
            unlink(own.sun_path);
            CHECK_EQ(bind(w->peer[i], (struct sockaddr *)&own, sizeof own), 0);
            unlink(own.sun_path);
        }
        CHECK_EQ(connect(w->peer[i], (struct sockaddr *)&address, size), 0);
        CHECK_EQ(sb_mux_accept(w->mux, fd, 0, 1, &stopped), 1);
        sb_info info;
        CHECK_EQ(sb_mux_info(w->mux, i, &info), 0);
        CHECK_EQ(info.peer_size, 0);
    }
    close(fd);
    end_of(w);
}

const struct test mux_accepts_tests[] = {
    {"rows run out", rows_run_out},
    {"accepts", accepts},
    {"watches", watches},
    {"accepted descriptors", accepted_descriptors},
    {"peers with a path", peers_with_a_path},
    {NULL, NULL},
};
