# SPDX-License-Identifier: MIT
"""What each log event means, and what to do: the last column of docs/log-events.md."""

TEXTS = {
    "client identified": (
        "The client's host says whose connection it is (`ident`, RFC 1413). What that is worth depends on who "
        "administers that host. None needed."
    ),
    "too many overrides, source not denied": (
        "A source came to a listener with `deny_time`, and 10,000 networks are denied already. Shorten `deny_time`, or "
        "use a packet filter."
    ),
    "tcpmux: client not served": (
        "A client of tcpmux sent no line in time, or asked for a name (`asked`) that is not there, or whose program"
        " runs `max_instances` times: see `why`. None needed."
    ),
    "a worker exceeds max_worker_memory from its start": (
        "A worker was above the limit before its first client, so replacing it would not help. Raise "
        "`max_worker_memory`."
    ),
    "accept paused": (
        "The kernel had no memory to watch the listening socket, or no descriptor for whom a program with `wait` may "
        "not serve, so accepting pauses for a moment. Check memory, `LimitNOFILE` and `fs.epoll.max_user_watches`."
    ),
    "accept paused, one connection shed": (
        "A connection could not be accepted for lack of descriptors or memory; one waiting client was closed, and "
        "accepting resumes after `pause_seconds`. Raise `LimitNOFILE` or memory, or lower `max_connections`."
    ),
    "reply dropped": (
        "A reply datagram could not be sent. At warning it was longer than a datagram can be: shorten the reply. "
        "Otherwise none needed."
    ),
    "asyncio": "asyncio reported a failed task or callback of a handler that nothing awaits. Fix the handler.",
    "path of a Unix socket lost, bound again": (
        "The path of a Unix socket was removed or replaced, and the socket was bound there again. Find out what "
        "removed the file."
    ),
    "path of a Unix socket lost, cannot bind it again": (
        "The path of a Unix socket was removed or replaced, and binding it again failed with `error`. Correct the "
        "path or its rights, then reload."
    ),
    "certificate expires soon": (
        "The certificate in `file` expires in less than 14 days, at `until`. Renew it, then reload."
    ),
    "certificate has expired": (
        "The certificate in `file` has expired; it is still used, and clients refuse it. Renew it, then reload."
    ),
    "closed": (
        "A connection, a relayed connection or a SOCKS client has ended, with its peer, counts and `reason`. At "
        "warning it was refused or no target was reached: see `why`. Otherwise none needed."
    ),
    "invalid configuration, keeping the previous one": (
        "A reload failed; the daemon serves with the previous configuration. Correct what `error` names, then reload."
    ),
    "connection dropped": (
        "An accepted connection was closed because the system refused what it needs. See `error`; check descriptors "
        "and memory."
    ),
    "connection cannot move: snapshot() returned a value that cannot be encoded": (
        "A connection cannot move to another process, because the handler's `snapshot()` returned a value that cannot"
        " be encoded. Return plain data from `snapshot()`."
    ),
    "connections stored for the next process": (
        "At the stop, connections were put into the service manager's store (`store_connections`). None needed."
    ),
    "cannot read the connections in the store": (
        "The state of stored connections is damaged or of another version, so those connections are closed. None "
        "needed after a change of version."
    ),
    "control": (
        "A command other than `status` and `connections` arrived on the control socket from user `uid`. None needed."
    ),
    "control refused": (
        "User `uid` tried to control the daemon and may not. Run `sockctl` as the daemon's owner or as root."
    ),
    "counts of the process before are not known": (
        "In an upgrade, the old process ended, for the reason in `error`, after this one had taken over. This process "
        "serves; only its counters begin at 0. Find out what ended the old one."
    ),
    "datagram dropped: too long": (
        "A datagram was longer than `max_bytes` and was not handled. Have the client send shorter datagrams."
    ),
    "defect": (
        "An error in sockd's own code ended one connection or request; the daemon keeps serving. Report it with its "
        "traceback. See [Defects](operations.md#defects)."
    ),
    "connection closed before it finished": (
        "During a stop or drain, a connection was closed before it was finished, for the reason in `why`. Raise "
        "`stop_timeout` if such connections need more time."
    ),
    "more connections closed before they finished": (
        "As `connection closed before it finished`, for `more` further "
        "connections that are not named one by one. Raise "
        "`stop_timeout` if they need more time."
    ),
    "internal error": "An unexpected exception ended the process, with exit code 70. Report it with its traceback.",
    "ended by force": (
        "The process did not stop in time and was ended; `at` and `stack` show what it was doing. Fix the handler "
        "that blocks there."
    ),
    "terminating programs": (
        "At the stop, programs started for connections were still running and are ended: TERM, then KILL. None needed."
    ),
    "fewer descriptors than max_connections may need": (
        "The hard limit of descriptors is lower than `max_connections` plus sockd's own. Raise `LimitNOFILE` (`ulimit"
        " -Hn`), or lower `max_connections`."
    ),
    "frame": "With `--trace`, a received or sent frame, its first bytes only. None needed.",
    "client left before it was served": "A client closed the connection before its service began. None needed.",
    "handler did not end in time": (
        "At the end of a stop, a blocking handler was still running in a thread, at the place in `at`. Give the "
        "handler a timeout."
    ),
    "handler failed": (
        "A handler raised an exception; its connection was closed, or its datagram got no reply. Fix the handler at "
        "the place in the traceback."
    ),
    "handlers did not end in time": (
        "At the end of a stop, `count` coroutines of a service were still running, at the places in `at`. Make them "
        "end when they are cancelled."
    ),
    "idle": "Under inetd in wait mode, no client came for `inetd_timeout`, so the process ends. None needed.",
    "input or output failed": (
        "Under inetd with a pipe or a terminal, reading standard input or writing standard output failed. See `error`."
    ),
    "limit reached, new clients wait in the backlog": (
        "The limit in `limit` is reached, and new clients wait in the kernel's backlog; `silent_closed` connections "
        "that had sent nothing were closed to make room. With `at_limit` `refuse` or `reset` they wait half a second "
        "at most, as long as a connection that has sent nothing may make room; then they are refused. Raise the limit "
        "if this is frequent."
    ),
    "listening": "A listener accepts clients at `address` for `service`. None needed.",
    "loop.stop() of a handler ignored": (
        "A handler has called `stop()` of asyncio's loop, which all services share; it goes on. Close the connection "
        "instead, or use `sockctl stop`."
    ),
    "forked process failed": (
        "A process `pid` that a handler forked has raised an exception, and has exited. Correct what the traceback "
        "names."
    ),
    "log not reopened, still writing to the old one": (
        "The log file could not be opened again on HUP or USR1; the previous file is still written. Correct what "
        "`error` names, then send USR1."
    ),
    "log record cannot be written": (
        "A log call had arguments that do not fit its text, at the place in `at`; this line replaces it. Correct that"
        " call."
    ),
    "log records lost": (
        "`count` lines were dropped because the target of the log accepted no more. Check the reader of the log, or "
        "log less."
    ),
    "log file larger than warn_size": (
        "The log file has grown to `bytes`, above `warn_size`. Rotate it with logrotate(8), or log less."
    ),
    "log file larger than max_size, no more is written": (
        "The log file has grown to `bytes`, above `max_size`; records are dropped, and counted, until it is emptied or "
        "rotated. Rotate it with logrotate(8)."
    ),
    "log reopened": "The log file was opened again on HUP or USR1. None needed.",
    "event loop resumed": (
        "The event loop resumed after a stall of `seconds`. Fix the handler named in `event loop stalled`."
    ),
    "event loop stalled": (
        "`handler` has blocked the event loop for `seconds`, and no other connection is served meanwhile. Make it "
        "faster, or set `blocking = true`."
    ),
    "no configuration file to reload": (
        "HUP arrived at a daemon started with `--listen`; only the log was reopened. Use a configuration file if you "
        "need reloads."
    ),
    "no longer listening": "A listener was removed by a reload or a drain, and refuses new clients. None needed.",
    "no PROXY header": (
        "A connection did not begin with the expected PROXY protocol header and was closed. Have the proxy send the "
        "header; at debug it was a health check that sent nothing, and none needed."
    ),
    "no thread can be started": (
        "No further thread for blocking handlers could be started. Raise `TasksMax` (`ulimit -u`) or memory, or lower"
        " `threads`."
    ),
    "no timer, so a stop has no time limit": (
        "The kernel gave no timer, so a stop that hangs is not ended by force. Check the limit of pending signals "
        "(`ulimit -i`)."
    ),
    "no TLS": (
        "A TLS handshake failed, for the reason in `why`. If the client is a known one: have it use TLS, or another "
        "listener without `tls`, where `why` begins with `not TLS`; else check the certificates and TLS versions of "
        "both sides."
    ),
    "not answered for a moment, to break a loop": (
        "A datagram source was answered for seconds without a pause, so it gets no reply for a moment. Check whether "
        "it answers replies, or set `datagram_budget`."
    ),
    "not answered: port of a well-known service": (
        "A datagram came from a port on which services answer; it gets no reply, to avoid a loop. None needed."
    ),
    "not answered: datagram budget of the source exceeded": (
        "A datagram source has used up `datagram_budget` and gets no reply until it pauses. Raise the budget if the "
        "client is a genuine one."
    ),
    "not answered: the listener's own address": (
        "A datagram came from an address of this listener itself; it gets no reply, to avoid a loop. Look for a "
        "forged sender."
    ),
    "not ready any more, still serving": (
        "A graceful stop began: `/ready` fails, and clients are still served for `pre_drain`. None needed."
    ),
    "not serving": "The daemon, or a worker of it, could not start. Correct what `error` names.",
    "upgrade failed, still serving": (
        "An upgrade failed, and the old process keeps serving. Correct what `error` names, then upgrade again."
    ),
    "out of memory": (
        "There was no memory for one connection or request, which was closed; the daemon keeps serving. Give it more "
        "memory, or lower `max_connections` and `max_memory`."
    ),
    "closed an inherited socket that matches no listener": (
        "A socket passed by the service manager matches no listener and was closed. Add a listener for it, or remove "
        "it from the socket unit."
    ),
    "not listening, its allow and deny cannot be enforced": (
        "The kernel did not accept the filter that a listener with a program (wait = true) needs for `allow` and "
        "`deny`. Nothing is served there. See `error`."
    ),
    "program ended at once, a pause before its next start": (
        "A program with wait = true failed within a second, or left what waited unread; it is started again after "
        "`pause_seconds`. `times` counts such ends in a row, of which the 1st, 10th, 100th and so on are logged. "
        "Correct the program: run it by hand; its standard error is in the lines before."
    ),
    "program ended": (
        "A program started for a connection, or for a socket, has exited. At warning it failed or was ended by a "
        "signal, or by the limit in `limit`: check the program."
    ),
    "program not started": (
        "The program for a connection could not be started, and the connection was closed; one for a socket "
        "(wait = true) is tried again after `pause_seconds`. Correct what `error` names."
    ),
    "program wrote to standard error": 'A program wrote a line to standard error (`stderr = "log"`). See `text`.',
    "program started": "A program was started for a connection, or for a socket (wait = true). None needed.",
    "connection of the proxy itself": (
        "A proxy opened a connection for itself (LOCAL in the PROXY header), such as a health check. None needed."
    ),
    "file of a value cannot be read any more, keeping its last content": (
        "At a reload, a file of `${file:/path}` or `${credential:NAME}` was out of reach, after `chroot` or as another"
        " user. If its content has changed, restart."
    ),
    "configuration directory no longer at its path, reading from the old one": (
        "The directory of the configuration no longer exists at its path, so the file in the old one is read. Restore"
        " the directory, then reload."
    ),
    "receive failed": (
        "Receiving a datagram failed, mostly because an earlier reply reached a closed port. None needed."
    ),
    "refused": (
        "So many clients (`count`) were not served for this `reason` (see [Refused clients]"
        "(operations.md#refused-clients)): the first at once, later ones in one line per 5 s, which names the last of "
        "them; `total` is the listener's. Adapt what `limit` names if the client is a genuine one."
    ),
    "refused: denied": (
        "A datagram came from an address that `allow` and `deny` exclude, and was ignored. Adapt them if the client "
        "is a genuine one."
    ),
    "reload failed: internal error": (
        "An unexpected exception ended a reload; the previous configuration stays. Report it with its traceback."
    ),
    "reloaded": "A reload is done: the numbers of listeners kept, added and removed. None needed.",
    "privileges dropped": "The daemon has given up root and serves as `user`. None needed.",
    "secured": "A TLS handshake succeeded, with this version and cipher. None needed.",
    "select() cannot wait for that many connections; use another multiplexer": (
        '`multiplexer = "select"` allows only `connections` instead of `max_connections`. Set `multiplexer = "auto"`.'
    ),
    "serving as root; set [daemon] user to switch to another user": (
        'The daemon keeps root while serving. Set `user` in `[daemon]`. None needed where `user = "root"` is meant, '
        "as for programs that run as other users."
    ),
    "listening socket shut down by another process, no longer listening": (
        "Another process that shares the listening socket shut it down, so it is closed here. Find that process, then"
        " reload."
    ),
    "shutdown hook failed": "A shutdown hook of a service raised an exception; the stop continues. Fix the hook.",
    "cannot read standard error of a program": (
        "The pipe for a program's standard error could not be watched, so its lines are lost. Check memory and "
        "`fs.epoll.max_user_watches`."
    ),
    "standard error not reopened, still writing to the old file": (
        "The file for the standard error of programs could not be opened again; the previous one is still written. "
        "Correct what `error` names, then send USR1."
    ),
    "standard output takes no more data, the rest is dropped": (
        "Under inetd, the reader of standard output took nothing for `write_timeout`, so the rest is dropped. Check "
        "the program that reads it."
    ),
    "stopped": "The process has stopped; `connections_left` were cut off, if any. None needed.",
    "stopping": "A graceful stop began, with this number of open connections. None needed.",
    "stopping workers": "A graceful stop of all workers began. None needed.",
    "connections restored from the store": (
        "After a restart, stored connections continue; `dropped` had ended or match no listener. None needed."
    ),
    "taken over": "This process took over listeners and connections of process `from` in an upgrade. None needed.",
    "takes effect at the next start": (
        "A reload changed a key that a running daemon cannot change. Restart or upgrade when convenient."
    ),
    "relay target is up again": "A relay target accepts connections again. None needed.",
    "relay target is down": (
        "A relay target could not be reached, so others are preferred for `seconds`, or until it is reached again. "
        "Check the target."
    ),
    "the kernel gives a smaller buffer; raise %s": (
        "A socket buffer is smaller than configured; `%s` stands for `net.core.rmem_max` or `net.core.wmem_max`. "
        "Raise that sysctl, or lower the buffer."
    ),
    "the service manager does not store connections, closing them gracefully": (
        "The service manager did not accept connections for its store, so they are closed. Raise "
        "`FileDescriptorStoreMax`."
    ),
    "cannot notify the service manager": (
        "A notification to the service manager could not be sent. Check `NOTIFY_SOCKET` and the unit's `NotifyAccess`."
    ),
    "the new process has exited": (
        "In an upgrade, the new process ended after it had taken over. See its own log lines; the service manager "
        "starts another."
    ),
    "the supervisor has exited": (
        "The supervisor of the workers is gone, so this worker stops. Find out what ended it, then start the daemon "
        "again."
    ),
    "TLS failed": (
        "An established TLS connection broke: a bad record, or an alert of the peer. None needed; the connection is "
        "closed."
    ),
    "upgrade failed: internal error": (
        "An unexpected exception ended an upgrade; the old process keeps serving. Report it with its traceback."
    ),
    "upgraded": (
        "The new process `pid` serves; `moved` connections moved to it, `stay` remain here until they end. None needed."
    ),
    "upgrading": "An upgrade began, and the new process is being started. None needed.",
    "users not read, keeping the previous ones": (
        "The users file of a SOCKS server could not be read again on USR1, or a reload may not read it any more; the "
        "previous users stay. Correct what `error` names, then send USR1."
    ),
    "users read": "The users file of a SOCKS server was read again. None needed.",
    "wait failed": (
        "Waiting for events failed, mostly for lack of memory, and is tried again; after 100 failures in a row the "
        "process ends. Check memory; with a traceback, correct the handler's signal handler that is in it."
    ),
    "worker did not end in time": (
        "A worker did not stop in time and was killed. See its `ended by force` line, or fix the handler that blocks."
    ),
    "worker did not start": (
        "A worker could not start, or was not ready in time; another is started. Correct what `error` names."
    ),
    "worker ended": (
        "A worker process has exited. At error this was not expected, and another is started: see its own log lines."
    ),
    "worker did not answer": (
        "A worker did not answer a command, or answered with an error. See `error`; if it repeats, look for a handler"
        " that blocks."
    ),
    "override set": (
        "An administrator has changed what the configuration says, by `sockctl deny`, `allow`, `limit`, `rate`, "
        "`target` or `drain`; it holds until `until`, or until the next reload. None needed."
    ),
    "MPTCP not available, using TCP": (
        "A listener with `mptcp = true` uses plain TCP, for the reason in `error`. Set net.mptcp.enabled=1, or use a "
        "kernel with MPTCP."
    ),
    "previous process has served for previous_timeout, stopping": (
        "After an upgrade, `connections` could not move within `previous_timeout`; they are closed gracefully within "
        "`stop_timeout`. None needed."
    ),
    "optional address not bound, trying again": (
        "`address` of a listener with `optional = true` cannot be bound, for the reason in `error`. It is tried again; "
        "`listening` follows once it is bound. None needed, unless it never is."
    ),
    "events of a worker lost": (
        "A worker had `count` events that its supervisor could not read in time; they are in the log. None needed."
    ),
    "override ended": "What sockctl had changed holds no more, for the reason in `why`. None needed.",
    "worker does not return from a handler, replacing it": (
        "A worker has not replied for `handler_timeout`: `at` is where its loop is blocked, if Python code runs; "
        "`ended by force` has the stack otherwise. It is ended, another one serves, and its connections are lost. Fix "
        "the handler, or have it called in threads (`blocking = true`)."
    ),
    "connection lost with its worker": (
        "A connection of a worker that did not return from a handler; up to 100 are named. None needed."
    ),
    "worker has served for long enough, replacing it": (
        "A worker has reached `max_worker_requests` or `max_worker_age`: a successor starts, and this one exits "
        "with its last connection. None needed."
    ),
    "worker exceeds max_worker_memory, replacing it": (
        "A worker takes more memory than `max_worker_memory`: a successor is started, and then this one stops "
        "gracefully. If it repeats, look for a memory leak in the handlers."
    ),
    "workers exit as soon as they start": (
        "Workers exit shortly after their start, so the next one is started after `again_seconds`. Correct what their"
        " own log lines name."
    ),
}
