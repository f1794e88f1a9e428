/* SPDX-License-Identifier: MIT */
/* text - what codes say */
#include "sockbuf.h"

const char *sb_error_text(int code)
{
    static const char texts[][36] = { /* no pointers: nothing is to be relocated */
        [-SB_ERR_NOMEM] = "out of memory",
        [-SB_ERR_LIMIT] = "past the limit",
        [-SB_ERR_TOO_LONG] = "a frame is too long",
        [-SB_ERR_AGAIN] = "not ready, try again",
        [-SB_ERR_END] = "end of file",
        [-SB_ERR_RESET] = "connection reset by the peer",
        [-SB_ERR_UNREACHABLE] = "the peer cannot be reached",
        [-SB_ERR_FAULT] = "a system call failed",
        [-SB_ERR_MISMATCH] = "the reply does not match the frames",
        [-SB_ERR_FULL] = "the table is full",
        [-SB_ERR_MALFORMED] = "malformed",
        [-SB_ERR_INVALID] = "invalid argument",
        [-SB_ERR_TRUNCATED] = "the stream ended within a frame",
        [-SB_ERR_GONE] = "no such connection",
        [-SB_ERR_CLOSING] = "the connection is being closed",
    };
    if (code >= 0)
        return "success";
    return code < SB_ERR_CLOSING ? "unknown error" : texts[-code];
}
