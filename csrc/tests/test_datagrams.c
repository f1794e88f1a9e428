/* SPDX-License-Identifier: MIT */
/* test_datagrams - many datagrams of one socket in one call, their answers in another, verdicts on senders */
#include "harness.h"
#include "datagrams.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { PLACES = 8, ROOM = 100, BIG = 1 << 20 };

/* A server's socket and a client's, with their names. */
struct ends {
    int server, client;
    struct sockaddr_storage server_name, client_name;
    socklen_t server_size, client_size;
};

static int bound(int family, const char *host, struct sockaddr_storage *name, socklen_t *size)
{
    struct sockaddr_in in = {.sin_family = AF_INET};
    struct sockaddr_in6 in6 = {.sin6_family = AF_INET6};
    int fd = socket(family, SOCK_DGRAM, 0), room = BIG;
    const struct sockaddr *wanted = family == AF_INET ? (void *)&in : (void *)&in6;
    CHECK_EQ(inet_pton(family, host, family == AF_INET ? (void *)&in.sin_addr : (void *)&in6.sin6_addr), 1);
    CHECK_EQ(bind(fd, wanted, family == AF_INET ? sizeof in : sizeof in6), 0);
    CHECK_EQ(setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &room, sizeof room), 0);
    CHECK_EQ(setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &room, sizeof room), 0);
    *size = sizeof *name;
    CHECK_EQ(getsockname(fd, (struct sockaddr *)name, size), 0);
    return fd;
}

static struct ends ends_of(int family, const char *host)
{
    struct ends ends;
    ends.server = bound(family, host, &ends.server_name, &ends.server_size);
    ends.client = bound(family, family == AF_INET ? "127.0.0.1" : "::1", &ends.client_name, &ends.client_size);
    return ends;
}

static void close_ends(const struct ends *ends)
{
    close(ends->server);
    close(ends->client);
}

/* To a server that is bound to every address, by one of them. */
static void aim_at(struct ends *ends, const char *host)
{
    struct sockaddr_in *in = (struct sockaddr_in *)&ends->server_name;
    struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)&ends->server_name;
    int is_four = ends->server_name.ss_family == AF_INET;
    CHECK_EQ(inet_pton(is_four ? AF_INET : AF_INET6, host, is_four ? (void *)&in->sin_addr : (void *)&in6->sin6_addr), 1);
}

static void say(const struct ends *ends, const char *data, size_t size)
{
    CHECK_EQ(sendto(ends->client, data, size, 0, (const struct sockaddr *)&ends->server_name, ends->server_size), (long)size);
}

static void say_text(const struct ends *ends, const char *text)
{
    say(ends, text, strlen(text));
}

/* The text that the client hears, from whom; "-": nothing. */
static const char *heard_from(const struct ends *ends, struct sockaddr_storage *from)
{
    static char room[ROOM + 10];
    socklen_t size = sizeof *from;
    ssize_t n = recvfrom(ends->client, room, ROOM, MSG_DONTWAIT, (struct sockaddr *)from, &size);
    if (n < 0)
        return "-";
    room[n] = 0;
    return room;
}

static const char *heard(const struct ends *ends)
{
    struct sockaddr_storage from;
    return heard_from(ends, &from);
}

static const char *text_of(const sb_datagrams *table, size_t index)
{
    static char room[ROOM + 1];
    sb_datagram one = {0};
    CHECK_EQ(sb_datagrams_get(table, index, &one), 0);
    memcpy(room, one.data, one.size);
    room[one.size] = 0;
    return room;
}

/* Answers out of one block. */
static int send_split(sb_datagrams *table, int fd, const uint32_t *indexes, const uint32_t *sizes, size_t count,
                      const char *block, int32_t *errors)
{
    sb_piece answers[PLACES] = {{NULL, 0}};
    for (size_t i = 0; i < count; block += sizes[i++])
        answers[i] = (sb_piece){.data = block, .size = sizes[i]};
    return sb_datagrams_send(table, fd, indexes, answers, count, errors);
}

static int answer_text(sb_datagrams *table, int fd, uint32_t index, const char *text)
{
    int32_t error = 99;
    uint32_t size = (uint32_t)strlen(text);
    int n = send_split(table, fd, &index, &size, 1, text, &error);
    CHECK_EQ(n, error == 0);
    return error;
}

static void a_batch(void)
{
    struct ends ends = ends_of(AF_INET, "127.0.0.1");
    sb_datagrams *table = sb_datagrams_new(PLACES, ROOM, 0);
    int32_t errors[PLACES];
    char text[16];
    CHECK_EQ(sb_datagrams_receive(table, ends.server, PLACES), SB_ERR_AGAIN);
    for (int i = 0; i < PLACES + 3; i++) {
        snprintf(text, sizeof text, "%d", i);
        say_text(&ends, text);
    }
    CHECK_EQ(sb_datagrams_receive(table, ends.server, 2), 2); /* as many as are wanted */
    CHECK_TEXT(text_of(table, 1), "1");
    CHECK_EQ(sb_datagrams_receive(table, ends.server, PLACES + 1), PLACES); /* and as there are places */
    CHECK_EQ(sb_datagrams_plain(table), PLACES);
    CHECK_TEXT(text_of(table, 0), "2");
    CHECK_TEXT(text_of(table, PLACES - 1), "9");
    static const uint32_t indexes[] = {0, 3, 3, 7}, sizes[] = {1, 0, 2, 3};
    CHECK_EQ(send_split(table, ends.server, indexes, sizes, 4, "abbccc", errors), 4);
    CHECK_TEXT(heard(&ends), "a");
    CHECK_TEXT(heard(&ends), "");
    CHECK_TEXT(heard(&ends), "bb");
    CHECK_TEXT(heard(&ends), "ccc");
    CHECK_TEXT(heard(&ends), "-");
    CHECK_EQ(send_split(table, ends.server, indexes, sizes, 0, "", errors), 0);
    CHECK_EQ(sb_datagrams_receive(table, ends.server, PLACES), 1);
    CHECK_EQ(sb_datagrams_receive(table, ends.server, PLACES), SB_ERR_AGAIN);
    sb_datagrams_free(table);
    close_ends(&ends);
}

/* One that fails keeps none of the others. */
static void errors_of_answers(void)
{
    static const struct {
        const char *what;
        uint32_t sizes[4];
        int nth, error; /* of the system call that fails */
        int want[4];
    } table_of_errors[] = {
        {"none", {1, 1, 1, 1}, 0, 0, {0, 0, 0, 0}},
        {"the first is too long", {101, 1, 1, 1}, 0, 0, {EMSGSIZE, 0, 0, 0}},
        {"one between", {1, 1, 101, 1}, 0, 0, {0, 0, EMSGSIZE, 0}},
        {"the last", {1, 1, 1, 101}, 0, 0, {0, 0, 0, EMSGSIZE}},
        {"all", {101, 101, 101, 101}, 0, 0, {EMSGSIZE, EMSGSIZE, EMSGSIZE, EMSGSIZE}},
        {"ENOBUFS", {1, 1, 1, 1}, 1, ENOBUFS, {ENOBUFS, 0, 0, 0}},
        {"EAGAIN", {101, 1, 1, 1}, 1, EAGAIN, {EMSGSIZE, EAGAIN, 0, 0}},
        {"ECONNREFUSED behind one", {1, 101, 1, 1}, 2, ECONNREFUSED, {0, EMSGSIZE, ECONNREFUSED, 0}},
    };
    struct ends ends = ends_of(AF_INET, "127.0.0.1");
    sb_datagrams *table = sb_datagrams_new(4, ROOM, 0);
    char block[4 * 101];
    memset(block, 'x', sizeof block);
    for (size_t t = 0; t < sizeof table_of_errors / sizeof table_of_errors[0]; t++) {
        static const uint32_t indexes[4] = {0, 1, 2, 3};
        const uint32_t *sizes = table_of_errors[t].sizes;
        int32_t errors[4];
        size_t size = 0;
        int sent = 0, came = 0;
        for (uint32_t i = 0; i < 4; i++) {
            say_text(&ends, "x");
            size += sizes[i];
            sent += table_of_errors[t].want[i] == 0;
        }
        CHECK_EQ(sb_datagrams_receive(table, ends.server, 4), 4);
        if (table_of_errors[t].nth > 0)
            fail_nth(CALL_SENDMSG, table_of_errors[t].nth, table_of_errors[t].error);
        CHECK_EQ(send_split(table, ends.server, indexes, sizes, 4, at_edge(block, size), errors), sent);
        CHECK_EQ(faults_clear(), table_of_errors[t].nth > 0);
        for (int i = 0; i < 4; i++)
            if (errors[i] != table_of_errors[t].want[i])
                CHECK_TEXT(strerror(errors[i]), table_of_errors[t].what);
        while (heard(&ends)[0] == 'x')
            came++;
        CHECK_EQ(came, sent);
    }
    sb_datagrams_free(table);
    close_ends(&ends);
}

/* The kernel's own: a message that UDP cannot have, in the midst of others that it can. */
static void an_error_of_the_kernel(void)
{
    struct ends ends = ends_of(AF_INET, "127.0.0.1");
    sb_datagrams *table = sb_datagrams_new(3, 70000, 0);
    static const uint32_t indexes[] = {0, 1, 2}, sizes[] = {1, 65508, 1};
    static char block[65510];
    int32_t errors[3];
    memset(block, 'x', sizeof block);
    for (int i = 0; i < 3; i++)
        say_text(&ends, "?");
    CHECK_EQ(sb_datagrams_receive(table, ends.server, 3), 3);
    CHECK_EQ(send_split(table, ends.server, indexes, sizes, 3, block, errors), 2);
    CHECK_EQ(errors[0], 0);
    CHECK_EQ(errors[1], EMSGSIZE);
    CHECK_EQ(errors[2], 0);
    CHECK_TEXT(heard(&ends), "x");
    CHECK_TEXT(heard(&ends), "x");
    CHECK_TEXT(heard(&ends), "-");
    sb_datagrams_free(table);
    close_ends(&ends);
}

static void an_icmp_message(void)
{
    struct ends ends = ends_of(AF_INET, "127.0.0.1");
    sb_datagrams *table = sb_datagrams_new(PLACES, ROOM, 0);
    close(ends.client);
    CHECK_EQ(connect(ends.server, (const struct sockaddr *)&ends.client_name, ends.client_size), 0);
    CHECK_EQ(send(ends.server, "x", 1, MSG_NOSIGNAL), 1); /* nobody has that port: ICMP says so */
    CHECK_EQ(sb_datagrams_receive(table, ends.server, PLACES), SB_ERR_FAULT);
    CHECK_EQ(errno, ECONNREFUSED);
    CHECK_EQ(sb_datagrams_receive(table, ends.server, PLACES), SB_ERR_AGAIN); /* once */
    fail_nth(CALL_RECV, 1, ENOBUFS);
    CHECK_EQ(sb_datagrams_receive(table, ends.server, PLACES), SB_ERR_FAULT);
    CHECK_EQ(errno, ENOBUFS);
    CHECK(faults_clear());
    sb_datagrams_free(table);
    close(ends.server);
}

static void too_long_ones(void)
{
    struct ends ends = ends_of(AF_INET, "127.0.0.1");
    sb_datagrams *table = sb_datagrams_new(PLACES, 4, 0);
    sb_datagram one;
    say_text(&ends, "four");
    say_text(&ends, "fiver");
    say_text(&ends, "six");
    CHECK_EQ(sb_datagrams_receive(table, ends.server, PLACES), 3);
    CHECK_EQ(sb_datagrams_plain(table), 1);
    for (size_t i = 0; i < 3; i++) {
        CHECK_EQ(sb_datagrams_get(table, i, &one), 0);
        CHECK_EQ(one.is_cut, i == 1);
        CHECK_EQ(one.size, i == 2 ? 3 : 4);
    }
    sb_datagrams_free(table);
    close_ends(&ends);
}

static void endings(void)
{
    static const struct {
        const char *datagram, *payload;
        int is_line;
    } cases[] = {
        {"a", "a", 1},       {"a\n", "a", 1},   {"a\r\n", "a", 1},    {"\n", "", 1},           {"\r\n", "", 1},
        {"", "", 1},         {"\n\n", "\n", 1}, {"a\r", "a\r", 1},    {"two\nlines\n", "two\nlines", 1},
        {"a\r\n", "a\r\n", 0},
    };
    struct ends ends = ends_of(AF_INET, "127.0.0.1");
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        sb_datagrams *table = sb_datagrams_new(1, ROOM, cases[i].is_line ? SB_DATAGRAMS_LINES : 0);
        say_text(&ends, cases[i].datagram);
        CHECK_EQ(sb_datagrams_receive(table, ends.server, 1), 1);
        CHECK_TEXT(text_of(table, 0), cases[i].payload);
        CHECK_EQ(answer_text(table, ends.server, 0, cases[i].payload), 0);
        CHECK_TEXT(heard(&ends), cases[i].datagram);
        sb_datagrams_free(table);
    }
    sb_datagrams *table = sb_datagrams_new(1, 4, SB_DATAGRAMS_LINES); /* with its ending an answer is too long */
    say_text(&ends, "a\n");
    CHECK_EQ(sb_datagrams_receive(table, ends.server, 1), 1);
    CHECK_EQ(answer_text(table, ends.server, 0, "1234"), EMSGSIZE);
    CHECK_EQ(answer_text(table, ends.server, 0, "123"), 0);
    CHECK_TEXT(heard(&ends), "123\n");
    sb_datagrams_free(table);
    close_ends(&ends);
}

static void from_the_address_that_was_asked(int family, const char *every, const char *asked, int option_level, int option)
{
    struct ends ends = ends_of(family, every);
    struct sockaddr_storage from;
    sb_datagrams *table = sb_datagrams_new(1, ROOM, SB_DATAGRAMS_CONTROL);
    sb_datagram one;
    char address[16];
    unsigned char host[16];
    aim_at(&ends, asked);
    say_text(&ends, "not reported");
    CHECK_EQ(sb_datagrams_receive(table, ends.server, 1), 1);
    CHECK_EQ(sb_datagrams_get(table, 0, &one), 0);
    CHECK_EQ(sb_datagram_asked(one.control, one.control_size, address), 0);
    CHECK_EQ(setsockopt(ends.server, option_level, option, &(int){1}, sizeof(int)), 0);
    say_text(&ends, "?");
    CHECK_EQ(sb_datagrams_receive(table, ends.server, 1), 1);
    CHECK_EQ(answer_text(table, ends.server, 0, "now"), 0);
    CHECK_TEXT(heard_from(&ends, &from), "now");
    CHECK(memcmp(&from, &ends.server_name, ends.server_size) == 0);
    CHECK_EQ(sb_datagrams_get(table, 0, &one), 0);
    int n = sb_datagram_asked(one.control, one.control_size, address);
    CHECK_EQ(sb__host((const char *)&ends.server_name, ends.server_size, host), 1);
    CHECK_EQ(n, family == AF_INET ? 4 : 16);
    CHECK(memcmp(address, host + 16 - n, (size_t)n) == 0);
    CHECK_EQ(sb_datagram_answer(ends.server, "later", 5, one.name, one.name_size, one.control, one.control_size), 0);
    CHECK_TEXT(heard_from(&ends, &from), "later");
    CHECK(memcmp(&from, &ends.server_name, ends.server_size) == 0);
    sb_datagrams_free(table);
    close_ends(&ends);
}

#if defined(__linux__)
static void asked_by_ipv4(void)
{
    from_the_address_that_was_asked(AF_INET, "0.0.0.0", "127.0.0.77", IPPROTO_IP, IP_PKTINFO);
}

static void asked_by_ipv6(void)
{
    from_the_address_that_was_asked(AF_INET6, "::", "::1", IPPROTO_IPV6, IPV6_RECVPKTINFO);
}

static struct cmsghdr *header_of(sb__control *control)
{
    return (struct cmsghdr *)(void *)control->bytes;
}

/* What comes is not what is sent: interfaces are left to routing, groups are no source. */
static void control_data(void)
{
    static const struct {
        const char *host;
        unsigned interface; /* 99: there is no control data */
    } cases[] = {
        {"2001:db8::1", 0}, {"::ffff:127.0.0.77", 0}, {"fe80::1", 3}, {"febf::1", 3}, {"fec0::1", 0}, {"ff02::1", 99},
    };
    sb__control asked, answer;
    struct in6_pktinfo info6;
    struct in_pktinfo info = {.ipi_ifindex = 3, .ipi_spec_dst = {1}, .ipi_addr = {2}};
    char address[16];
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        memset(&asked, 0, sizeof asked);
        *header_of(&asked) = (struct cmsghdr){.cmsg_level = IPPROTO_IPV6, .cmsg_type = IPV6_PKTINFO, .cmsg_len = CMSG_LEN(sizeof info6)};
        info6 = (struct in6_pktinfo){.ipi6_ifindex = 3};
        CHECK_EQ(inet_pton(AF_INET6, cases[i].host, &info6.ipi6_addr), 1);
        memcpy(CMSG_DATA(header_of(&asked)), &info6, sizeof info6);
        size_t n = sb__control_answer(asked.bytes, CMSG_SPACE(sizeof info6), &answer);
        CHECK_EQ(n, cases[i].interface == 99 ? 0 : CMSG_SPACE(sizeof info6));
        if (n == 0)
            continue;
        info6.ipi6_ifindex = cases[i].interface;
        CHECK(memcmp(CMSG_DATA(header_of(&answer)), &info6, sizeof info6) == 0);
    }
    memset(&asked, 0, sizeof asked);
    *header_of(&asked) = (struct cmsghdr){.cmsg_level = IPPROTO_IP, .cmsg_type = IP_PKTINFO, .cmsg_len = CMSG_LEN(sizeof info)};
    memcpy(CMSG_DATA(header_of(&asked)), &info, sizeof info);
    CHECK_EQ(sb__control_answer(asked.bytes, CMSG_SPACE(sizeof info), &answer), CMSG_SPACE(sizeof info));
    info = (struct in_pktinfo){.ipi_spec_dst = {1}};
    CHECK(memcmp(CMSG_DATA(header_of(&answer)), &info, sizeof info) == 0);
    CHECK_EQ(sb__control_answer(asked.bytes, 0, &answer), 0);
    CHECK_EQ(sb__control_answer(asked.bytes, sizeof asked + 1, &answer), 0);
    CHECK_EQ(sb_datagram_asked(asked.bytes, 0, address), 0);
    CHECK_EQ(sb_datagram_asked(asked.bytes, 3, address), 0); /* less than a header */
    CHECK_EQ(sb_datagram_asked(asked.bytes, sizeof asked + 1, address), 0);
    header_of(&asked)->cmsg_len = CMSG_LEN(2); /* too short for one */
    CHECK_EQ(sb_datagram_asked(asked.bytes, CMSG_SPACE(sizeof info), address), 0);
    CHECK_EQ(sb__control_answer(asked.bytes, CMSG_SPACE(sizeof info), &answer), 0);
    header_of(&asked)->cmsg_len = CMSG_LEN(sizeof info);
    header_of(&asked)->cmsg_type = IP_PKTINFO + 1;
    CHECK_EQ(sb_datagram_asked(asked.bytes, CMSG_SPACE(sizeof info), address), 0);
    header_of(&asked)->cmsg_level = SOL_SOCKET;
    CHECK_EQ(sb__control_answer(asked.bytes, CMSG_SPACE(sizeof info), &answer), 0);
}
#else
static void asked_by_ipv4(void) {}
static void asked_by_ipv6(void) {}
static void control_data(void) {}
#endif

static void unix_sockets(void)
{
    int fds[2];
    char path[] = "/tmp/sb-datagrams-XXXXXX";
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    sb_datagrams *table = sb_datagrams_new(PLACES, ROOM, 0);
    sb_datagram one;
    int32_t error;
    static const uint32_t first = 0, one_byte = 1;
    CHECK_EQ(socketpair(AF_UNIX, SOCK_DGRAM, 0, fds), 0);
    CHECK_EQ(send(fds[0], "x", 1, MSG_NOSIGNAL), 1);
    CHECK_EQ(sb_datagrams_receive(table, fds[1], PLACES), 1);
    CHECK_EQ(sb_datagrams_plain(table), 1); /* who has no host is admitted */
    CHECK_EQ(sb_datagrams_get(table, 0, &one), 0);
    CHECK_EQ(one.name_size, 0);
    CHECK_EQ(send_split(table, fds[1], &first, &one_byte, 1, "x", &error), 0);
    CHECK_EQ(error, SB_ERR_NO_NAME);
    CHECK_EQ(sb_datagram_answer(fds[1], "x", 1, one.name, 0, NULL, 0), SB_ERR_INVALID);
    sb_datagrams_judge(table, 0, SB_SENDER_DENIED); /* there is nobody to remember */
    close(fds[0]);
    close(fds[1]);
    CHECK(mkdtemp(path) != NULL);
    snprintf(name.sun_path, sizeof name.sun_path, "%s/s", path);
    int server = socket(AF_UNIX, SOCK_DGRAM, 0), client = socket(AF_UNIX, SOCK_DGRAM, 0);
    CHECK_EQ(bind(server, (const struct sockaddr *)&name, sizeof name), 0);
    CHECK_EQ(bind(client, (const struct sockaddr *)&(struct sockaddr_un){.sun_family = AF_UNIX, .sun_path = "\0sb-datagrams"}, 15), 0);
    CHECK_EQ(sendto(client, "x", 1, 0, (const struct sockaddr *)&name, sizeof name), 1);
    CHECK_EQ(sb_datagrams_receive(table, server, PLACES), 1);
    CHECK_EQ(answer_text(table, server, 0, "to a name in no directory"), 0);
    char room[ROOM];
    CHECK_EQ(recv(client, room, sizeof room, 0), 25);
    close(client);
    CHECK_EQ(answer_text(table, server, 0, "x"), ECONNREFUSED);
    CHECK_EQ(sb_datagrams_get(table, 0, &one), 0);
    CHECK_EQ(sb_datagram_answer(server, "x", 1, one.name, one.name_size, NULL, 0), SB_ERR_FAULT);
    CHECK_EQ(errno, ECONNREFUSED);
    close(server);
    unlink(name.sun_path);
    rmdir(path);
    sb_datagrams_free(table);
}

/* The verdict on the next datagram of a client. */
static int verdict_on(sb_datagrams *table, const struct ends *ends)
{
    sb_datagram one = {.verdict = 99};
    say_text(ends, "x");
    CHECK_EQ(sb_datagrams_receive(table, ends->server, 1), 1);
    CHECK_EQ(sb_datagrams_get(table, 0, &one), 0);
    CHECK_EQ(sb_datagrams_plain(table), one.verdict == SB_SENDER_ADMITTED);
    return one.verdict;
}

/* A path that fills sun_path: Linux counts a NUL behind it as well, and takes no such length back. */
static void a_full_path(void)
{
    struct sockaddr_un name = {.sun_family = AF_UNIX}, server_name = {.sun_family = AF_UNIX};
    char folder[] = "/tmp/sb-XXXXXX", room[ROOM], path[sizeof name.sun_path + 1];
    CHECK(mkdtemp(folder) != NULL);
    snprintf(server_name.sun_path, sizeof server_name.sun_path, "%s/s", folder);
    memset(path, 'c', sizeof path);
    memcpy(path, folder, strlen(folder));
    path[strlen(folder)] = '/';
    path[sizeof path - 1] = '\0';
    memcpy(name.sun_path, path, sizeof name.sun_path);
    int server = socket(AF_UNIX, SOCK_DGRAM, 0), client = socket(AF_UNIX, SOCK_DGRAM, 0);
    CHECK_EQ(bind(server, (const struct sockaddr *)&server_name, sizeof server_name), 0);
    CHECK_EQ(bind(client, (const struct sockaddr *)&name, sizeof name), 0);
    CHECK_EQ(sendto(client, "one", 3, 0, (const struct sockaddr *)&server_name, sizeof server_name), 3);
    sb_datagrams *table = sb_datagrams_new(1, ROOM, 0);
    CHECK_EQ(sb_datagrams_receive(table, server, 1), 1);
    sb_datagram one;
    CHECK_EQ(sb_datagrams_get(table, 0, &one), 0);
    CHECK_EQ(one.name_size, sizeof name);
    int32_t error = 0;
    CHECK_EQ(sb_datagrams_send(table, server, &(uint32_t){0}, &(sb_piece){.data = "two", .size = 3}, 1, &error), 1);
    CHECK_EQ(recv(client, room, sizeof room, MSG_DONTWAIT), 3);
    sb_datagrams_free(table);
    close(server);
    close(client);
    unlink(server_name.sun_path);
    unlink(path);
    rmdir(folder);
}

static void verdicts(void)
{
    struct ends ends = ends_of(AF_INET, "127.0.0.1"), other = ends;
    sb_datagrams *table = sb_datagrams_new(1, ROOM, 0);
    struct sockaddr_in *name = (struct sockaddr_in *)&ends.client_name;
    other.client = bound(AF_INET, "127.0.0.2", &other.client_name, &other.client_size);
    CHECK_EQ(verdict_on(table, &ends), SB_SENDER_ADMITTED); /* all are, at first */
    sb_datagrams_forget(table, 0);
    CHECK_EQ(verdict_on(table, &ends), SB_SENDER_UNKNOWN);
    sb_datagrams_judge(table, 0, SB_SENDER_ADMITTED);
    CHECK_EQ(verdict_on(table, &ends), SB_SENDER_ADMITTED);
    CHECK_EQ(verdict_on(table, &other), SB_SENDER_UNKNOWN);
    sb_datagrams_judge(table, 0, SB_SENDER_DENIED);
    CHECK_EQ(verdict_on(table, &other), SB_SENDER_DENIED);
    CHECK_EQ(verdict_on(table, &ends), SB_SENDER_ADMITTED);
    sb_datagrams_suspect(table, ntohs(name->sin_port));
    CHECK_EQ(verdict_on(table, &ends), SB_SENDER_UNKNOWN); /* whatever its host is */
    CHECK_EQ(verdict_on(table, &other), SB_SENDER_DENIED);
    sb_datagrams_forget(table, 1);
    CHECK_EQ(verdict_on(table, &other), SB_SENDER_ADMITTED);
    CHECK_EQ(verdict_on(table, &ends), SB_SENDER_UNKNOWN);
    close(other.client);
    close_ends(&ends);
    sb_datagrams_free(table);
}

/* Of very many hosts the last ones are remembered, and none has another one's verdict. */
static void many_hosts(void)
{
    static sb__hosts hosts;
    struct sockaddr_in in = {.sin_family = AF_INET};
    struct sockaddr_in6 in6 = {.sin6_family = AF_INET6};
    int remembered = 0;
    for (uint32_t i = 0; i < 10000; i++) {
        in.sin_addr.s_addr = htonl(0x0a000000 + i);
        CHECK_EQ(sb__hosts_verdict(&hosts, (const char *)&in, sizeof in), SB_SENDER_UNKNOWN);
        sb__hosts_judge(&hosts, (const char *)&in, sizeof in, 1 + (int)(i & 1));
        CHECK_EQ(sb__hosts_verdict(&hosts, (const char *)&in, sizeof in), 1 + (int)(i & 1));
    }
    for (uint32_t i = 0; i < 10000; i++) {
        in.sin_addr.s_addr = htonl(0x0a000000 + i);
        int verdict = sb__hosts_verdict(&hosts, (const char *)&in, sizeof in);
        CHECK(verdict == SB_SENDER_UNKNOWN || verdict == 1 + (int)(i & 1));
        remembered += verdict != SB_SENDER_UNKNOWN;
    }
    CHECK(remembered > SB__HOSTS / 2 && remembered <= SB__HOSTS); /* most places are used */
    in.sin_addr.s_addr = htonl(0x0a000000 + 9999);
    CHECK_EQ(inet_pton(AF_INET6, "::ffff:10.0.39.15", &in6.sin6_addr), 1); /* the same host */
    CHECK_EQ(sb__hosts_verdict(&hosts, (const char *)&in6, sizeof in6), sb__hosts_verdict(&hosts, (const char *)&in, sizeof in));
    CHECK_EQ(sb__hosts_verdict(&hosts, "no host", 7), SB_SENDER_ADMITTED);
    sb__hosts_judge(&hosts, "no host", 7, SB_SENDER_DENIED);
    CHECK_EQ(sb__hosts_verdict(&hosts, "no host", 7), SB_SENDER_ADMITTED);
}

/* The memory of large ones is given back. */
static void large_ones(void)
{
    struct ends ends = ends_of(AF_INET, "127.0.0.1");
    sb_datagrams *table = sb_datagrams_new(32, 65507, 0);
    char *big = calloc(1, 60000);
    for (int turn = 0; turn < 3; turn++)
        for (int n = 0, want = 32; n < 32;) {
            while (want > 0 && sendto(ends.client, big, 60000, MSG_DONTWAIT, (const struct sockaddr *)&ends.server_name, ends.server_size) > 0)
                want--;
            int got = sb_datagrams_receive(table, ends.server, 32);
            CHECK(got > 0);
            n += got > 0 ? got : 32;
        }
    say_text(&ends, "small");
    CHECK_EQ(sb_datagrams_receive(table, ends.server, 32), 1);
    CHECK_TEXT(text_of(table, 0), "small");
    free(big);
    sb_datagrams_free(table);
    close_ends(&ends);
}

static void wrong_calls(void)
{
    sb_datagram one;
    int32_t error;
    static const uint32_t indexes[2];
    static const sb_piece answers[2] = {{"a", 1}, {"b", 1}};
    char big[200] = "";
    CHECK(sb_datagrams_new(0, 1, 0) == NULL);
    CHECK(sb_datagrams_new(1025, 1, 0) == NULL);
    CHECK(sb_datagrams_new(1, 0, 0) == NULL);
    CHECK(sb_datagrams_new(1, (1 << 20) + 1, 0) == NULL);
    fail_nth(CALL_MMAP, 1, ENOMEM);
    CHECK(sb_datagrams_new(1, 1, 0) == NULL);
    CHECK(faults_clear());
    sb_datagrams *table = sb_datagrams_new(1, 1, 0);
    CHECK_EQ(sb_datagrams_receive(NULL, 0, 1), SB_ERR_INVALID);
    CHECK_EQ(sb_datagrams_receive(table, 0, 0), SB_ERR_INVALID);
    CHECK_EQ(sb_datagrams_receive(table, -1, 1), SB_ERR_FAULT);
    CHECK_EQ(sb_datagrams_get(NULL, 0, &one), SB_ERR_INVALID);
    CHECK_EQ(sb_datagrams_get(table, 0, &one), SB_ERR_INVALID);
    CHECK_EQ(sb_datagrams_get(table, 0, NULL), SB_ERR_INVALID);
    CHECK_EQ(sb_datagrams_plain(NULL), 0);
    CHECK_EQ(sb_datagrams_send(NULL, 0, indexes, answers, 0, &error), SB_ERR_INVALID);
    CHECK_EQ(sb_datagrams_send(table, 0, indexes, answers, 2, &error), SB_ERR_INVALID); /* more than it has places */
    CHECK_EQ(sb_datagrams_send(table, 0, indexes, answers, 1, &error), SB_ERR_INVALID);  /* nothing was received */
    CHECK_EQ(sb_datagram_answer(-1, "x", 1, big, sizeof big, NULL, 0), SB_ERR_INVALID); /* no such name */
    sb_datagrams_judge(NULL, 0, SB_SENDER_DENIED);
    sb_datagrams_judge(table, 0, SB_SENDER_DENIED);
    sb_datagrams_forget(NULL, 0);
    sb_datagrams_suspect(NULL, 0);
    sb_datagrams_free(table);
    sb_datagrams_free(NULL);
}

const struct test datagram_tests[] = {
    {"datagrams: a batch", a_batch},
    {"datagrams: errors of answers", errors_of_answers},
    {"datagrams: an error of the kernel", an_error_of_the_kernel},
    {"datagrams: an ICMP message", an_icmp_message},
    {"datagrams: too long ones", too_long_ones},
    {"datagrams: endings", endings},
    {"datagrams: asked by IPv4", asked_by_ipv4},
    {"datagrams: asked by IPv6", asked_by_ipv6},
    {"datagrams: control data", control_data},
    {"datagrams: Unix sockets", unix_sockets},
    {"datagrams: a full path", a_full_path},
    {"datagrams: verdicts", verdicts},
    {"datagrams: many hosts", many_hosts},
    {"datagrams: large ones", large_ones},
    {"datagrams: wrong calls", wrong_calls},
    {NULL, NULL},
};
