/* SPDX-License-Identifier: MIT */
/* What last_words.c writes, and from what; see there. */
#ifndef SOCKD_LAST_WORDS_H
#define SOCKD_LAST_WORDS_H

#include <stdint.h>

/* <cffi> */
enum sockd_slot { /* bytes of a template, in whose place something else is put */
    SOCKD_SLOT_TIME = 1,
    SOCKD_SLOT_SIGNAL = 2,
    SOCKD_SLOT_PLACE = 3,
    SOCKD_SLOT_STACK = 4
};

typedef struct sockd_template {
    const char *text;
    int32_t size;
    int32_t is_quoted; /* 1: values stand between double quotes, with backslashes before these and before themselves */
    const char *package; /* what file names of sockd's own code begin with; ended by 0, as the next one */
    const char *library; /* likewise of Python's */
} sockd_template;

/* Write a line.
 *
 * dump: of faulthandler, all threads; signal: a name; milliseconds: since 1970.
 * Returns its size, no more than room; what does not fit is cut off. */
int32_t sockd_last_words(const sockd_template *how, const char *dump, int32_t dump_size, const char *signal,
                         int64_t milliseconds, char *line, int32_t room);
/* </cffi> */

#endif
