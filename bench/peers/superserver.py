# SPDX-License-Identifier: MIT
"""Becomes a server that executes a program for each connection, with its usual log of two lines for each.

python superserver.py sockd|xinetd|tcpserver PORT PROGRAM DIRECTORY
"""

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from servers import find_program, find_sockd

SOCKD = """
[daemon]
{user}
[[listen]]
address = "tcp://127.0.0.1:{port}"
service = "program"
[service.program]
exec = ["{program}"]
max_instances = 1000
{user}
"""

XINETD = """
defaults
{{
 log_type = FILE {directory}/log
 log_on_success = PID HOST EXIT DURATION
 cps = 100000 1
 per_source = UNLIMITED
 instances = 1000
}}
service program
{{
 type = UNLISTED
 socket_type = stream
 protocol = tcp
 port = {port}
 bind = 127.0.0.1
 wait = no
 user = {name}
 server = {program}
}}
"""


def command(server: str, port: str, program: str, directory: Path) -> list[str]:
    """Write what the server is configured by, and return how it is started."""
    is_root = os.geteuid() == 0
    name = "root" if is_root else os.environ["USER"]
    words = {"port": port, "program": program, "directory": directory, "name": name}
    configuration = directory / "configuration"
    if server == "tcpserver":
        return [
            str(find_program(server)),
            "-v",
            "-c",
            "1000",
            "-b",
            "1024",
            "-HR",
            "-l",
            "0",
            "127.0.0.1",
            port,
            program,
        ]
    template = SOCKD if server == "sockd" else XINETD
    configuration.write_text(template.format(**words, user='user = "root"' if is_root else ""))
    if server == "sockd":
        return [find_sockd(), "--foreground", "--config", str(configuration)]
    return [str(find_program(server)), "-dontfork", "-f", str(configuration)]


if __name__ == "__main__":
    started = command(*sys.argv[1:4], Path(sys.argv[4]))
    os.execv(started[0], started)
