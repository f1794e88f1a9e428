/* SPDX-License-Identifier: MIT */
/*
 * serve - services without a handler: the reply is made in place, in the turn in which the frames were received
 *
 * DESCRIPTION
 *   upper is the server of the FAQ (appendix A), echo that of RFC 862, discard that of RFC 863.
 *
 *   Compiled into sockd._sockbuf by csrc/sockbuf_build.py, which reads the
 *   declarations between the marks.
 */

/* <cffi> from here to </cffi> the Python extension reads these declarations */

#define SOCKD_SERVE_ECHO 1    /* every byte back */
#define SOCKD_SERVE_DISCARD 2 /* nothing back */
#define SOCKD_SERVE_UPPER 3   /* every frame back in upper case */

/* The function that answers frames; NULL: none, the frames are the caller's. */
sb_serve sockd_server(int number);

/* </cffi> */

#include <stddef.h>

static size_t serve_echo(char *data, size_t size)
{
    (void)data;
    return size;
}

static size_t serve_discard(char *data, size_t size)
{
    (void)data, (void)size;
    return 0;
}

/* ASCII alone, as bytes.upper() */
static size_t serve_upper(char *data, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        unsigned char c = (unsigned char)data[i];
        data[i] = (char)(c - ((unsigned char)(c - 'a') < 26 ? 32 : 0));
    }
    return size;
}

sb_serve sockd_server(int number)
{
    switch (number) {
    case SOCKD_SERVE_ECHO:
        return serve_echo;
    case SOCKD_SERVE_DISCARD:
        return serve_discard;
    case SOCKD_SERVE_UPPER:
        return serve_upper;
    default:
        return NULL;
    }
}
