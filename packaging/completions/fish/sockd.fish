# fish completion for sockd(1).
# Made by packaging/generate; the options are those of the parsers.
complete -c sockd -f
complete -c sockd -s h -l help -d 'show this help message and exit'
complete -c sockd -s c -l config -r -F -d 'read this configuration'
complete -c sockd -s f -l foreground -d 'stay in the foreground and log to standard error'
complete -c sockd -s u -l user -x -a '(__fish_complete_users)' -d 'serve as this user once everything is bound'
complete -c sockd -s g -l group -x -a '(__fish_complete_groups)' -d 'and as this group, in place of the user\'s own'
complete -c sockd -l chroot -x -a '(__fish_complete_directories)' -d 'have this folder for the whole file system while serving'
complete -c sockd -l pidfile -r -F -d 'lock this file against a second daemon, and put the pid into it'
complete -c sockd -s l -l listen -x -a 'tcp:// udp:// unix:/ unixgram:/' -d 'serve SERVICE (a built-in or module:attribute) on ADDRESS; repeatable, needs no file'
complete -c sockd -l inetd -x -d 'serve what standard input is: a connection, a listening socket, a datagram socket, a pipe, a terminal'
complete -c sockd -s t -l check -d 'check the configuration and the handlers, bind nothing'
complete -c sockd -s T -l print -d 'check, and print the effective configuration'
complete -c sockd -l multiplexer -x -a 'auto epoll poll select' -d 'auto, epoll, poll or select'
complete -c sockd -l log-level -x -a 'debug info warning error' -d 'debug, info, warning or error'
complete -c sockd -l log-format -x -a 'text json' -d 'text or json'
complete -c sockd -l reload -d 'start again when a source file changes (development)'
complete -c sockd -s V -l version -d 'show program\'s version number and exit'
