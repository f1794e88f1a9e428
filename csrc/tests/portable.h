/* portable - included before all else: a Linux without what only Linux has
 *
 * Besides -U__linux__, which takes epoll away: no accept4(2) either.  The tests
 * themselves may go on using SOCK_NONBLOCK, which is an enumerator too.
 */
#include <sys/socket.h>
#undef SOCK_NONBLOCK
