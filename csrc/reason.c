/* SPDX-License-Identifier: MIT */
/* reason - why a connection ended, in words */
#include "sockmux.h"

const char *sb_reason_text(int reason)
{
    static const char texts[SB_REASONS][28] = { /* no pointers: nothing is to be relocated */
        [SB_REASON_NONE] = "open",
        [SB_REASON_EOF] = "end of file",
        [SB_REASON_CLOSED] = "closed here",
        [SB_REASON_RESET] = "reset by the peer",
        [SB_REASON_UNREACHABLE] = "the peer cannot be reached",
        [SB_REASON_TRUNCATED] = "ended within a frame",
        [SB_REASON_FRAME_TOO_LONG] = "a frame too long",
        [SB_REASON_IDLE_TIMEOUT] = "idle for too long",
        [SB_REASON_WRITE_STALL] = "takes no output",
        [SB_REASON_LIMIT] = "past a limit of memory",
        [SB_REASON_HANDLER_ERROR] = "its handler failed",
        [SB_REASON_SHUTDOWN] = "the program ends",
        [SB_REASON_ABORTED] = "aborted here",
        [SB_REASON_FRAME_TIMEOUT] = "a frame not whole in time",
        [SB_REASON_MALFORMED] = "malformed",
        [SB_REASON_REFUSED] = "refused",
        [SB_REASON_HALF_CLOSE_TIMEOUT] = "half closed for too long",
    };
    return reason < 0 || reason >= SB_REASONS ? "unknown" : texts[reason];
}
