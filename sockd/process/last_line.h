/* SPDX-License-Identifier: MIT */
/* Where the last line of a process goes, and how; see last_line.c. */
#ifndef SOCKD_LAST_LINE_H
#define SOCKD_LAST_LINE_H

#include <stdint.h>

#include "last_words.h"

/* <cffi> */
enum sockd_target { SOCKD_TARGET_NONE = 0, SOCKD_TARGET_STREAM = 1, SOCKD_TARGET_SOCKET = 2 };
/* </cffi> */

/* Begin with no target; again in a process that was forked.
 *
 * dumping: the signal on which faulthandler dumps; dump: what that writes to, which is read without a wait. */
void sockd_last_line_begin(int32_t dumping, int32_t dump);

/* Where the line goes, a descriptor, and how it is written; all is copied but the template's two file names.
 * Returns 0, or -1: the template is too long. */
int32_t sockd_last_line_set(int32_t fd, int32_t target, const sockd_template *how);

/* Write it, unless that would have to wait, or there is no target; safe within a signal handler.
 *
 * signal: the name of the one that asked for the end. */
void sockd_last_line_write(const char *signal);

#endif
