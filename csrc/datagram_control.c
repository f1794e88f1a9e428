/* SPDX-License-Identifier: MIT */
/*
 * datagram_control - the local address of a datagram, so that its answer has it as source
 *
 * DESCRIPTION
 *   A socket bound to every address has none of its own: the kernel would choose the source of an answer by its
 *   route, and a client that sent to 192.0.2.2 ignores an answer of 192.0.2.1.  IP_PKTINFO of ip(7), IPV6_PKTINFO of
 *   RFC 3542, section 6.  The interface is left to routing, but for a link-local address, which needs it.
 *
 * BUGS
 *   A system without IP_PKTINFO (FreeBSD has IP_RECVDSTADDR) answers over IPv4 as its routes say.
 */
#include "datagrams.h"

#include <string.h>

/* The first control message of a kind whose data has this size: where the data is, NULL: none.  The kernel's own
 * layout is read by its own macros, from a copy that is aligned for them. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wsign-conversion" /* in CMSG_NXTHDR of musl */
static const unsigned char *find_control(sb__control *copy, size_t size, int level, int type, size_t data_size)
{
    struct msghdr message = {.msg_control = copy->bytes};
    message.msg_controllen = (unsigned char)size; /* a socklen_t with musl, a size_t with glibc */
    for (struct cmsghdr *one = CMSG_FIRSTHDR(&message); one != NULL; one = CMSG_NXTHDR(&message, one))
        if (one->cmsg_level == level && one->cmsg_type == type && one->cmsg_len >= CMSG_LEN(data_size))
            return CMSG_DATA(one);
    return NULL;
}
#pragma GCC diagnostic pop

static int copy_control(sb__control *copy, const char *control, size_t size)
{
    if (size == 0 || size > sizeof copy->bytes)
        return 0;
    memset(copy, 0, sizeof *copy);
    memcpy(copy->bytes, control, size);
    return 1;
}

static size_t make_control(sb__control *answer, int level, int type, const void *data, size_t size)
{
    struct cmsghdr *header = (struct cmsghdr *)(void *)answer->bytes;
    memset(answer, 0, sizeof *answer);
    header->cmsg_level = level;
    header->cmsg_type = type;
    header->cmsg_len = (unsigned)CMSG_LEN(size); /* likewise */
    memcpy(CMSG_DATA(header), data, size);
    return CMSG_SPACE(size);
}

size_t sb__control_answer(const char *control, size_t size, sb__control *answer)
{
    sb__control copy;
    const unsigned char *data;
    if (!copy_control(&copy, control, size))
        return 0;
#ifdef IP_PKTINFO
    struct in_pktinfo info;
    if ((data = find_control(&copy, size, IPPROTO_IP, IP_PKTINFO, sizeof info)) != NULL) {
        memcpy(&info, data, sizeof info);
        info = (struct in_pktinfo){.ipi_spec_dst = info.ipi_spec_dst};
        return make_control(answer, IPPROTO_IP, IP_PKTINFO, &info, sizeof info);
    }
#endif
#ifdef IPV6_PKTINFO
    struct in6_pktinfo info6;
    if ((data = find_control(&copy, size, IPPROTO_IPV6, IPV6_PKTINFO, sizeof info6)) != NULL) {
        memcpy(&info6, data, sizeof info6);
        if (IN6_IS_ADDR_MULTICAST(&info6.ipi6_addr))
            return 0;
        if (!IN6_IS_ADDR_LINKLOCAL(&info6.ipi6_addr))
            info6.ipi6_ifindex = 0;
        return make_control(answer, IPPROTO_IPV6, IPV6_PKTINFO, &info6, sizeof info6);
    }
#endif
    return 0;
}

int sb_datagram_asked(const char *control, size_t size, char address[16])
{
    sb__control copy;
    const unsigned char *data;
    if (!copy_control(&copy, control, size))
        return 0;
#ifdef IP_PKTINFO
    if ((data = find_control(&copy, size, IPPROTO_IP, IP_PKTINFO, sizeof(struct in_pktinfo))) != NULL) {
        memcpy(address, data + offsetof(struct in_pktinfo, ipi_spec_dst), 4);
        return 4;
    }
#endif
#ifdef IPV6_PKTINFO
    if ((data = find_control(&copy, size, IPPROTO_IPV6, IPV6_PKTINFO, sizeof(struct in6_pktinfo))) != NULL) {
        memcpy(address, data + offsetof(struct in6_pktinfo, ipi6_addr), 16);
        return 16;
    }
#endif
    return 0;
}
