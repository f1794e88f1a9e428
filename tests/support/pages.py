# SPDX-License-Identifier: MIT
"""Pages of the documentation, followed as a reader does: files are written, commands are typed, outputs compared.

A page says what it is: a file is the block below Write `NAME`, Change `NAME`, Add to `NAME`, or what `cat NAME` shows;
a command begins with `$` or `#`, and what stands behind it is its output; lines that begin with the level of a log
event, or stand behind `# in the daemon's log:`, are in a daemon's log.  `&` starts a program and leaves it running.
"""

from __future__ import annotations

import os
import re
import select
import shutil
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"(?:\b(Write|Change|Add to) `([\w./-]+)`[^`]*\n\n)?^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
COMMAND = re.compile(r"^([$#]) ((?:.*\\\n)*.*)\n((?:(?![$#] ).*\n)*)", re.MULTILINE)
IN_THE_LOG = "# in the daemon's log"
LOG_LINE = re.compile(r"(debug|info|warning|error|critical) ")
LOG = "/srv/log"
NEEDED = ("unshare", "ip", "setpriv", "ss")
OBSERVES = ("sockctl --control /run/sockd/slow.sock status", "ss ", "tail ", "nstat ", "cat ", "egrep ", "grep ", "ps ")
"""Commands that are tried again until what is on its way has come."""
WAIT_S = 30.0
"""For what comes by itself: a daemon that starts, a line of the log."""
USER = 1000
PREPARE = r"""
mount -t tmpfs tmpfs /srv && mount -t tmpfs -o mode=755 tmpfs /run && ip link set lo up || exit 1
mkdir /srv/upper && mount -t tmpfs tmpfs /srv/upper || exit 1
for place in /dev /etc /tmp /var /usr/local {home}; do   # what a page writes there, nobody else sees
    [ -d $place ] || continue
    name=$(echo $place | tr / _); mkdir /srv/upper/$name /srv/upper/w$name
    mount -t overlay overlay -o lowerdir=$place,upperdir=/srv/upper/$name,workdir=/srv/upper/w$name $place || exit 1
done
chmod 755 {home}; chmod 1777 /tmp
mkdir -p /srv/page /srv/home /etc/sockd; rm -f /etc/sockd/*; : > {log}
printf '%s: files\n' passwd group hosts services > /etc/nsswitch.conf
chown {uid} /srv/page; chown {user} /srv/home {log}; chmod 666 {log}; cd /srv/page
export PATH={path}:$PATH:/usr/sbin PYTHONDONTWRITEBYTECODE=1 HOME=/srv/home LC_ALL=C.UTF-8 XDG_RUNTIME_DIR=
"""

TOLERANT = [
    (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", "TIME"),
    (r"(?<=[:=])[3-6]\d{4}\b", "PORT"),  # a client's: ip_local_port_range
    (r"(\bpid[= ]|\bprocess |\bthread |/proc/)\d+", r"\1PID"),
    (r"(\b(?:cpu_)?seconds=|\"(?:pid|seconds|memory)\":)[\d.]+", r"\1N"),
    (r"\b\d+(\.\d+)? ?(us|ms|s|sec|%)(?!\w)", "DURATION"),
    (r"\b(fd=|recvfrom\(|sendto\(|flock\(|bind\(|listen\()\d+", r"\1FD"),
    (r"ln=15,r=8,p=3\S+", "HASH"),
    (r"curl: \((\d+)\) Can't ", r"curl: (\1) cannot "),  # as curl 8.23 says it
    # of a connection that was reset: it depends on when
    (r"cannot connect: (\S+) \(tried \S+: Connection reset by peer\)", r"connection reset: \1 (the peer aborted it)"),
    (r"\s+", " "),
]
"""What differs each time, as times and process IDs do, or from one version of a program to the next."""


@dataclass(frozen=True)
class Step:
    """One thing that a reader does: `kind` is write, append, run, start or log."""

    kind: str
    what: str
    text: str = ""
    prompt: str = "$"


def steps(text: str) -> Iterator[Step]:
    """Read a page, or a part of one."""
    for verb, name, language, body in BLOCK.findall(text):
        if verb and language not in ("console", ""):
            yield Step("append" if verb == "Add to" else "write", name, body)
        elif language == "console":
            yield from commands(body)
        elif not language and LOG_LINE.match(body):
            yield Step("log", body)


def commands(body: str) -> Iterator[Step]:
    for prompt, command, said in COMMAND.findall(body):
        shown = re.fullmatch(r"cat ([\w.-]+)", command)
        if command.startswith(IN_THE_LOG):
            yield Step("log", said)
        elif shown and said:
            yield Step("write", shown[1], said, prompt)
        else:
            typed = re.sub(r"\s{2,}#.*", "", command)  # without what a reader is told of it
            if typed.startswith("sockd --foreground") and LOG_LINE.match(said):  # it serves on, and tells
                yield Step("start", f"{typed} &", "", prompt)
                yield Step("log", said)
            else:
                yield Step("start" if typed.endswith("&") else "run", typed, said, prompt)


def plain(text: str) -> str:
    for pattern, same in TOLERANT:
        text = re.sub(pattern, same, text)
    return text.strip()


def agrees(found: str, shown: str, *, within: bool = False) -> bool:
    """Compare an output with what the page shows; `...` is anything, and `within` is so between any two lines."""
    if within:
        shown = "...".join(shown.splitlines())
    pattern = ".*".join(re.escape(part.strip()) for part in plain(shown).split("..."))
    return bool((re.search if within else re.fullmatch)(pattern, plain(found), re.DOTALL))


class Shell:
    """A shell that is typed into.

    Args:
        commands: a descriptor that it reads.
        output: one that has what it and its programs print.
    """

    def __init__(self, commands: int, output: int) -> None:
        self._commands = commands
        self._output = output
        self._count = 0

    def run(self, command: str, timeout: float = 60.0) -> str:
        """Type a command; return what it prints until it has ended."""
        self._count += 1
        mark = f"---{self._count}---".encode()
        os.write(self._commands, f"{{ {command}\n}} </dev/null\necho {mark.decode()}\n".encode())
        found, end = b"", time.monotonic() + timeout
        while mark not in found:
            if not select.select([self._output], [], [], max(0, end - time.monotonic()))[0]:
                raise AssertionError(f"does not end: {command}\n{found.decode()[-1500:]}")
            piece = os.read(self._output, 65_536)
            assert piece, f"the shell has ended: {found.decode()}"
            found += piece
        return found.partition(mark)[0].decode()


class Terminal:
    """Namespaces (mounts, network, processes) with a shell of root, `#`, and one of a user, `$`.

    Args:
        as_root: whose directory it is; a page without `#` needs no root.
    """

    def __init__(self, *, as_root: bool) -> None:
        if os.geteuid() != 0 or not all(map(shutil.which, NEEDED)):
            pytest.skip("needs root, " + ", ".join(NEEDED))
        base = Path(sys.base_prefix)
        home = Path(*base.parts[:2]) if base.parts[1] in ("root", "home") else "/root"
        owner = 0 if as_root else USER
        prepare = PREPARE.format(home=home, path=Path(sys.executable).parent, uid=owner, user=USER, log=LOG)
        theirs, output = os.pipe(), os.pipe()
        user = f"setpriv --reuid {USER} --regid {USER} --clear-groups bash --norc <&{theirs[0]} >&{output[1]} 2>&1 &"
        self._bash = subprocess.Popen(
            ["unshare", "-m", "-n", "-p", "-f", "--mount-proc", "--kill-child", "bash", "--norc"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            pass_fds=(theirs[0], output[1]),
            cwd="/",
        )
        for fd in (theirs[0], output[1]):
            os.close(fd)
        self._fds = (theirs[1], output[0])
        root = Shell(self._bash.stdin.fileno(), self._bash.stdout.fileno())
        try:
            root.run(f"{prepare}\n{user}\nexec {theirs[0]}<&- {output[1]}>&-")
        except (AssertionError, BrokenPipeError) as error:
            self.close()
            pytest.skip(f"needs namespaces and overlays: {error}")
        self._shells = {"#": root, "$": Shell(*self._fds)}
        self.owner = "#" if as_root else "$"
        for shell in self._shells.values():
            shell.run("set -m; umask 022")
        if as_root and shutil.which("socat"):  # where a daemon in the background logs to
            root.run(f"socat -u UNIX-RECV:/dev/log,mode=666 OPEN:{LOG},append 2>/dev/null & disown")
            self.wait(lambda: "yes" in self.run("[ -S /dev/log ] && echo yes"), "syslog")

    def close(self) -> None:
        self._bash.kill()
        with suppress(BrokenPipeError):
            self._bash.stdin.close()
        self._bash.stdout.close()
        self._bash.wait()
        for fd in self._fds:
            os.close(fd)

    def run(self, command: str, prompt: str = "#") -> str:
        """Type a command; return what it prints until it has ended."""
        return self._shells[prompt].run(command)

    def write(self, name: str, text: str, *, append: bool = False) -> None:
        sign = ">>" if append else ">"
        body = f"<<'END-OF-FILE'\n{text.rstrip()}\nEND-OF-FILE"
        self.run(f"mkdir -p $(dirname {name}); cat {sign} {name} {body}", self.owner)

    def start(self, command: str, prompt: str = "$") -> None:
        """Start a program in the background, and wait until it serves, if it is one that does."""
        before = self.run("ss -Hltunx | wc -l")
        serving = self.log().count("Press Ctrl-C")
        self.run(f"{command[:-1]} >>{LOG} 2>&1 {'' if '|' in command else '</dev/null'} &", prompt)
        if not re.search(r"sockd|strace|LISTEN|\.py ", command):
            return
        if "--foreground" in command:
            self.wait(lambda: self.log().count("Press Ctrl-C") > serving, command)
        elif "strace" in command:
            self.wait(lambda: self.run("grep -l 'TracerPid:[[:space:]]*[1-9]' /proc/[0-9]*/status"), command)
        else:
            self.wait(lambda: self.run("ss -Hltunx | wc -l") != before, command)

    def log(self) -> str:
        return self.run(f"cat {LOG} $(cat /srv/logs 2>/dev/null) 2>/dev/null")

    def wait(self, condition, what: str) -> None:
        end = time.monotonic() + WAIT_S
        while not condition():
            assert time.monotonic() < end, f"waited in vain: {what}\n{self.log()[-1500:]}"
            time.sleep(0.03)  # only until the next look


def follow(terminal: Terminal, todo: list[Step], beside: dict[str, str], *, shortened: bool = False) -> None:
    """Do all steps; fail where something else comes than the page shows.

    Args:
        beside: for a command that does not end by itself: what is typed in another terminal meanwhile.
        shortened: the page leaves out lines of outputs.
    """
    for step in todo:
        if step.kind in ("write", "append"):
            terminal.write(step.what, step.text, append=step.kind == "append")
            for path in re.findall(r'^log = \{ to = "(/[^"]+)"', step.text, re.MULTILINE):
                terminal.run(f"echo {path} >> /srv/logs")
        elif step.kind == "start":
            terminal.start(step.what, step.prompt)
        elif step.kind == "log":
            for line in step.what.splitlines():
                terminal.wait(lambda line=line: agrees(terminal.log(), line, within=True), line)
        else:
            found = run(terminal, step, beside, shortened=shortened)
            assert agrees(found, step.text, within=shortened and bool(step.text)), (
                f"{step.what}\n{found[-1500:]}\nin place of\n{step.text}\n{terminal.log()[-1500:]}"
            )


def run(terminal: Terminal, step: Step, beside: dict[str, str], *, shortened: bool) -> str:
    other = next((text for start, text in beside.items() if step.what.startswith(start)), None)
    end = time.monotonic() + WAIT_S
    if other is None:
        found = terminal.run(step.what, step.prompt)
        while step.what.startswith(OBSERVES) and not agrees(found, step.text, within=shortened):
            if time.monotonic() > end:
                break
            time.sleep(0.05)  # likewise
            found = terminal.run(step.what, step.prompt)
        return found
    terminal.run(f": > /srv/home/shown; {step.what} >/srv/home/shown 2>&1 </dev/null &", step.prompt)
    if other.startswith("READY "):  # what it says before anything happens
        other = other.removeprefix("READY ")
        terminal.wait(lambda: terminal.run("cat /srv/home/shown"), step.what)
    if other:
        terminal.run(other)
    while not agrees(terminal.run("cat /srv/home/shown"), step.text, within=shortened) and time.monotonic() < end:
        time.sleep(0.05)  # likewise
    found = terminal.run("cat /srv/home/shown")
    terminal.run("{ kill -INT %%; kill -TERM %%; wait %%; } 2>/dev/null", step.prompt)
    return found
