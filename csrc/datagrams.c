/* SPDX-License-Identifier: MIT */
/*
 * datagrams - many datagrams of one socket in one call
 *
 * DESCRIPTION
 *   recvmmsg(2) fills the places of a table, sendmmsg(2) sends answers to their senders.  A place begins a cache line
 *   further in its page than the one before, for short datagrams that all lie at the same offset of a page would
 *   displace each other from the cache.
 *
 *   sendmmsg stops at the first message that fails, and says why only when that is the first one of its call: so
 *   a call that sent fewer than it was given is repeated from there, and one that fails is skipped.
 *
 * BUGS
 *   A table whose datagrams were large keeps their memory until it receives the next ones.
 *   Without recvmmsg an error of the socket that comes behind a datagram of the same call is lost.
 */
#include "datagrams.h"
#include "stream.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>

enum {
    MAX_COUNT = 1024, /* UIO_MAXIOV of Linux, past which recvmmsg(2) cuts its vector */
    MAX_BYTES = 1 << 20,
    CACHE_LINE = 64,
    KEPT_BYTES = 1 << 20 /* of payloads, that stay resident */
};

#if SB_HAS_MMSG
typedef struct mmsghdr message;
#else
typedef struct message {
    struct msghdr msg_hdr;
    unsigned int msg_len;
} message;
#endif

union name {
    struct sockaddr any;
    struct sockaddr_in6 in6;
    struct sockaddr_un un;
};

/* Of a datagram, beside its message. */
struct place {
    struct iovec room;
    size_t resident; /* bytes of it that were used since its memory was given back */
    uint32_t ending;
    int32_t verdict;
    union name name;
};

struct sending {
    struct iovec pieces[2]; /* payload, line ending */
    sb__control control;
};

struct sb_datagrams {
    size_t mapped, count, max_bytes, received, plain;
    size_t used; /* places that the last datagrams have changed */
    size_t resident; /* of all places */
    int flags;
    char *payloads;
    size_t stride;
    sb__hosts hosts;
    message received_messages[MAX_COUNT], sent_messages[MAX_COUNT];
    sb__control controls[MAX_COUNT];
    struct sending sendings[MAX_COUNT];
    struct place places[MAX_COUNT];
};

/* ---- system calls */

#if SB_HAS_MMSG
static int receive_many(int fd, message *messages, size_t count)
{
    return recvmmsg(fd, messages, (unsigned)count, MSG_DONTWAIT, NULL);
}

static int send_many(int fd, message *messages, size_t count)
{
    return sendmmsg(fd, messages, (unsigned)count, MSG_DONTWAIT | MSG_NOSIGNAL);
}
#else
static int receive_many(int fd, message *messages, size_t count)
{
    size_t n = 0;
    for (; n < count; n++) {
        ssize_t size = recvmsg(fd, &messages[n].msg_hdr, MSG_DONTWAIT);
        if (size < 0)
            break;
        messages[n].msg_len = (unsigned)size;
    }
    return n > 0 ? (int)n : -1;
}

static int send_many(int fd, message *messages, size_t count)
{
    size_t n = 0;
    while (n < count && sb__send_message(fd, &messages[n].msg_hdr) >= 0)
        n++;
    return n > 0 ? (int)n : -1;
}
#endif

/* ---- a table */

static size_t rounded(size_t size, size_t unit)
{
    return (size + unit - 1) / unit * unit;
}

static void make_ready(sb_datagrams *table, size_t i)
{
    struct place *place = &table->places[i];
    struct msghdr *header = &table->received_messages[i].msg_hdr;
    place->room = (struct iovec){.iov_base = table->payloads + i * table->stride, .iov_len = table->max_bytes};
    *header = (struct msghdr){.msg_name = &place->name, .msg_namelen = sizeof place->name, .msg_iov = &place->room, .msg_iovlen = 1};
    if (table->flags & SB_DATAGRAMS_CONTROL) {
        header->msg_control = table->controls[i].bytes;
        header->msg_controllen = sizeof table->controls[i].bytes;
    }
}

sb_datagrams *sb_datagrams_new(size_t count, size_t max_bytes, int flags)
{
    if (count < 1 || count > MAX_COUNT || max_bytes < 1 || max_bytes > MAX_BYTES)
        return NULL;
    size_t head = rounded(sizeof(sb_datagrams), 4096), stride = rounded(max_bytes, 4096) + CACHE_LINE;
    size_t mapped = head + count * stride; /* 1 GiB at most */
    void *memory = mmap(NULL, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        return NULL;
    sb_datagrams *table = memory;
    table->mapped = mapped;
    table->count = count;
    table->max_bytes = max_bytes;
    table->flags = flags;
    table->payloads = (char *)memory + head;
    table->stride = stride;
    table->hosts.admits_all = 1;
    for (size_t i = 0; i < count; i++)
        make_ready(table, i);
    return table;
}

void sb_datagrams_free(sb_datagrams *table)
{
    if (table != NULL)
        munmap(table, table->mapped);
}

/* ---- receiving */

static void give_memory_back(sb_datagrams *table)
{
    if (table->resident <= KEPT_BYTES)
        return;
    table->resident = 0;
    for (size_t i = 0; i < table->count; i++)
        table->places[i].resident = 0;
#ifdef MADV_DONTNEED
    (void)!madvise(table->payloads, table->count * table->stride, MADV_DONTNEED);
#endif
}

static uint32_t line_ending(const char *data, size_t size)
{
    if (size == 0 || data[size - 1] != '\n')
        return 0;
    return size > 1 && data[size - 2] == '\r' ? 2 : 1;
}

static const char *data_of(const sb_datagrams *table, size_t i)
{
    return table->places[i].room.iov_base;
}

static int is_cut(const sb_datagrams *table, size_t i)
{
    return (table->received_messages[i].msg_hdr.msg_flags & MSG_TRUNC) != 0;
}

static void look_at(sb_datagrams *table, size_t i)
{
    struct place *place = &table->places[i];
    message *one = &table->received_messages[i];
    if (one->msg_hdr.msg_namelen > sizeof place->name.un) /* Linux counts a NUL behind a path that fills sun_path, and
                                                           * takes no such length back (unix(7), BUGS) */
        one->msg_hdr.msg_namelen = sizeof place->name.un;
    place->ending = table->flags & SB_DATAGRAMS_LINES ? line_ending(data_of(table, i), one->msg_len) : 0;
    place->verdict = sb__hosts_verdict(&table->hosts, (const char *)&place->name, one->msg_hdr.msg_namelen);
    if (one->msg_len > place->resident) {
        table->resident += one->msg_len - place->resident;
        place->resident = one->msg_len;
    }
    if (table->plain == i && place->verdict == SB_SENDER_ADMITTED && !is_cut(table, i))
        table->plain++;
}

int sb_datagrams_receive(sb_datagrams *table, int fd, size_t max)
{
    if (table == NULL || max == 0)
        return SB_ERR_INVALID;
    size_t count = max < table->count ? max : table->count;
    table->received = table->plain = 0;
    give_memory_back(table);
    for (size_t i = 0; i < table->used; i++)
        make_ready(table, i);
    table->used = 0;
    int n = receive_many(fd, table->received_messages, count);
    if (n < 0)
        return sb__class_of(errno);
    table->received = table->used = (size_t)n;
    for (size_t i = 0; i < table->received; i++)
        look_at(table, i);
    return n;
}

int sb_datagrams_get(const sb_datagrams *table, size_t index, sb_datagram *datagram)
{
    if (table == NULL || datagram == NULL || index >= table->received)
        return SB_ERR_INVALID;
    const struct place *place = &table->places[index];
    const message *one = &table->received_messages[index];
    *datagram = (sb_datagram){
        .data = data_of(table, index),
        .name = (const char *)&place->name,
        .control = table->controls[index].bytes,
        .size = one->msg_len - place->ending,
        .ending = place->ending,
        .name_size = (uint32_t)one->msg_hdr.msg_namelen,
        .control_size = (uint32_t)one->msg_hdr.msg_controllen,
        .is_cut = is_cut(table, index),
        .verdict = place->verdict,
    };
    return 0;
}

size_t sb_datagrams_plain(const sb_datagrams *table)
{
    return table == NULL ? 0 : table->plain;
}

/* ---- answers */

static int are_received(const sb_datagrams *table, const uint32_t *indexes, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (indexes[i] >= table->received)
            return 0;
    return 1;
}

/* Make the ith message, an answer to the datagram of an index; an errno, or SB_ERR_NO_NAME: it cannot be sent. */
static int prepare(sb_datagrams *table, size_t i, uint32_t index, const sb_piece *answer)
{
    struct place *place = &table->places[index];
    const struct msghdr *asked = &table->received_messages[index].msg_hdr;
    struct sending *sending = &table->sendings[i];
    if (asked->msg_namelen == 0)
        return SB_ERR_NO_NAME;
    if (answer->size > table->max_bytes || answer->size + place->ending > table->max_bytes)
        return EMSGSIZE;
    char *ending = (char *)place->room.iov_base + table->received_messages[index].msg_len - place->ending;
    sending->pieces[0] = (struct iovec){.iov_base = (void *)(uintptr_t)answer->data, .iov_len = answer->size};
    sending->pieces[1] = (struct iovec){.iov_base = ending, .iov_len = place->ending};
    struct msghdr *header = &table->sent_messages[i].msg_hdr;
    *header = (struct msghdr){.msg_name = &place->name, .msg_namelen = asked->msg_namelen, .msg_iov = sending->pieces};
    header->msg_iovlen = place->ending ? 2 : 1;
    size_t control = sb__control_answer(asked->msg_control, (size_t)asked->msg_controllen, &sending->control);
    if (control > 0) {
        header->msg_control = sending->control.bytes;
        header->msg_controllen = (unsigned char)control;
    }
    return 0;
}

/* Send from the first to before the last, which all are ready; returns how many were sent. */
static int send_run(sb_datagrams *table, int fd, size_t first, size_t last, int32_t *errors)
{
    int sent = 0;
    while (first < last) {
        int n = send_many(fd, table->sent_messages + first, last - first);
        if (n < 0)
            errors[first++] = errno;
        else
            sent += n, first += (size_t)n;
    }
    return sent;
}

int sb_datagrams_send(sb_datagrams *table, int fd, const uint32_t *indexes, const sb_piece *answers, size_t count,
                      int32_t *errors)
{
    if (table == NULL || count > table->count || !are_received(table, indexes, count))
        return SB_ERR_INVALID;
    size_t first = 0;
    int sent = 0;
    for (size_t i = 0; i < count; i++) {
        errors[i] = prepare(table, i, indexes[i], &answers[i]);
        if (errors[i] == 0)
            continue;
        sent += send_run(table, fd, first, i, errors);
        first = i + 1;
    }
    return sent + send_run(table, fd, first, count, errors);
}

int sb_datagram_answer(int fd, const char *data, size_t size, const char *name, size_t name_size, const char *control,
                       size_t control_size)
{
    sb__control made;
    struct iovec piece = {.iov_base = (void *)(uintptr_t)data, .iov_len = size};
    struct msghdr header = {.msg_name = (void *)(uintptr_t)name, .msg_iov = &piece, .msg_iovlen = 1};
    if (name_size == 0 || name_size > sizeof(union name))
        return SB_ERR_INVALID;
    header.msg_namelen = (unsigned char)name_size;
    size_t n = sb__control_answer(control, control_size, &made);
    if (n > 0) {
        header.msg_control = made.bytes;
        header.msg_controllen = (unsigned char)n;
    }
    return sb__send_message(fd, &header) < 0 ? sb__class_of(errno) : 0;
}

/* ---- verdicts */

void sb_datagrams_judge(sb_datagrams *table, size_t index, int verdict)
{
    if (table != NULL && index < table->received)
        sb__hosts_judge(&table->hosts, (const char *)&table->places[index].name,
                        table->received_messages[index].msg_hdr.msg_namelen, verdict);
}

void sb_datagrams_forget(sb_datagrams *table, int admits_all)
{
    if (table != NULL)
        sb__hosts_forget(&table->hosts, admits_all);
}

void sb_datagrams_suspect(sb_datagrams *table, uint16_t port)
{
    if (table != NULL)
        sb__hosts_suspect(&table->hosts, port);
}
