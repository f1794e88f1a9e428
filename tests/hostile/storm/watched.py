# SPDX-License-Identifier: MIT
"""The daemon of a storm, from outside: its process and those it started, its log, its control socket, /proc.

The log is judged while it is read, for ten minutes of it are too much to keep: see Judge.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter, deque
from contextlib import suppress
from pathlib import Path

import psutil
from serving import STAY_ROOT

HERE = Path(__file__).parent
COPIED = {"handlers.py": "app.py", "raises.py": "raises.py", "verbs.py": "verbs.py", "planted.py": "planted.py"}
ASK_S = 20.0
START_S = 20.0
KEPT_LINES = 60
MOST_TEXT = 100
LONG_TEXT = 1000
HANDLERS_OWN = ("handler failed", "asyncio", "shutdown hook failed")
"""Messages with a traceback that is a handler's."""
OF_HANDLERS = re.compile(r'File "[^"]*/(app|raises|verbs)\.py", line')
REFUSED_REPLIES = re.compile(
    "|".join(
        (
            "handler returned", "the reply is", "last_words: expected", "replies to", "PayloadError", r"struct\.error",
            "not a sockd",
            "expected a bytes-like", "must be bytes-like", "a bytes-like object is required", "data argument must be",
            "released memoryview", "memoryview: ", "memoryview assignment: ", "BufferError", "read-only",
            "makes objects with frame_received",
            r"get_buffer\(\) returned", "surrogates not allowed", "UnicodeDecodeError", "cannot be a frame",
            "cannot frame a stream", r"start_tls\(\)", "not in plain text", r"write\(\) after write_eof",
            "NotImplemented", "StopIteration", r"__len__\(\) should return", "its traceback cannot be printed",
        )
    )
)  # fmt: skip
"""What sockd says to replies and calls that are wrong."""


class Judge:
    """Reads log lines, and keeps those that should not be there.

    Attributes:
        counts: lines by message.
        faults: what is wrong with the log, the first of each kind.
        cut: lines into which others came.
        planted: lines of the defect that storm.planted has put there.
        samples: of errors, by message.
        text: lines that are none of the log.
        last: the last lines, for reports.
    """

    def __init__(self) -> None:
        self.counts: Counter = Counter()
        self.faults: list[str] = []
        self.last: deque = deque(maxlen=KEPT_LINES)
        self._kinds: set[str] = set()
        self.cut = 0
        self.planted: list[str] = []
        self.samples: dict[str, str] = {}
        self.text: list[str] = []

    def take(self, text: str) -> None:
        self.last.append(text[:3000])
        try:
            line = json.loads(text)
            message = line["message"]
        except (ValueError, TypeError, KeyError):
            self._text(text)
            return
        self.counts[message] += 1
        if line["level"] == "error" and message not in HANDLERS_OWN:
            self.samples[message] = text[:500]
        if trace := line.get("traceback"):
            self._trace(message, line, trace)

    def _text(self, text: str) -> None:
        """Keep what is no log line, all of it as one fault.

        Lines of two processes get into each other where they are longer than a pipe takes at once (PIPE_BUF, pipe(7)).
        """
        if (
            not text
            or text.startswith('{"time"')
            or "\\n  File " in text
            or text.endswith('"}')
            or len(text) > LONG_TEXT
        ):
            self.cut += 1
            return
        if len(self.text) < MOST_TEXT:
            self.text.append(text[:300])

    def _trace(self, message: str, line: dict, trace: str) -> None:
        own = message in HANDLERS_OWN
        places = re.findall(r'File "([^"]*)", line (\d+)', trace)
        last = ":".join(places[-1]) if places else trace[-100:]
        if own and (OF_HANDLERS.search(trace) or REFUSED_REPLIES.search(trace[-3000:]) or len(trace) > 100_000):
            return
        if "Planted: " in trace[-100:] and message == "defect":
            self.planted.append(str(line)[:2000])
            return
        rest = {key: value for key, value in line.items() if key not in ("traceback", "time", "level")}
        self._fault(f"{message} {last}", f"{rest}\n{trace[-3000:]}")

    def _fault(self, kind: str, text: str) -> None:
        if kind not in self._kinds and len(self._kinds) < 40:
            self._kinds.add(kind)
            self.faults.append(text)


class Watched:
    """A daemon that serves storm.services' plan.

    Args:
        directory: its own, with sockd.toml.
        words: more of the command line.
        environment: variables added.
    """

    def __init__(self, directory: Path, *, words=(), environment=None) -> None:
        self.directory = directory
        self.control = str(directory / "control.sock")
        self.judge = Judge()
        self._reading = threading.Event()
        self._reading.set()
        for name, copy in COPIED.items():
            shutil.copy(HERE / name, directory / copy)
        command = [Path(sys.executable).with_name("sockd"), *STAY_ROOT, "--foreground", *words]
        self.process = subprocess.Popen(
            [*map(str, command)],
            cwd=directory,
            env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1", **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            errors="backslashreplace",
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        try:
            self.pid = self._started()
        except BaseException:
            self.kill()
            raise

    def _read(self) -> None:
        for text in self.process.stderr:
            self.judge.take(text.rstrip("\n"))
            self._reading.wait()

    def read_no_log(self, yes: bool) -> None:
        """Let the log's pipe fill, or read on."""
        (self._reading.clear if yes else self._reading.set)()

    def _started(self) -> int:
        end = time.monotonic() + START_S
        while time.monotonic() < end and self.process.poll() is None:
            with suppress(OSError, ValueError):
                return self.status(2)["pid"]
            time.sleep(0.02)
        raise AssertionError(f"sockd did not start: {[*self.judge.last]}")

    # ---- asking

    def ask_raw(self, line: bytes, within: float = ASK_S) -> bytes:
        """Send bytes to the control socket and return what comes, up to its end."""
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(within)
            sock.connect(self.control)
            sock.sendall(line)
            if not line.endswith(b"\n"):
                sock.shutdown(socket.SHUT_WR)
            pieces = []
            while piece := sock.recv(1 << 20):
                pieces.append(piece)
        return b"".join(pieces)

    def ask(self, verb: str, within: float = ASK_S, **words) -> dict:
        return json.loads(self.ask_raw(json.dumps({"verb": verb, **words}).encode() + b"\n", within))

    def status(self, within: float = ASK_S) -> dict:
        return self.ask("status", within)["result"]

    # ---- /proc

    def processes(self, but=()) -> list[psutil.Process]:
        """Return the daemon's processes: all that descend from us, but for those with these numbers."""
        found = []
        for one in psutil.Process().children(recursive=True):
            with suppress(psutil.Error):
                if one.pid not in but and one.status() != psutil.STATUS_ZOMBIE:
                    found.append(one)
        return found

    def descriptors(self, but=()) -> dict[str, int]:
        """Return how many descriptors there are, by kind."""
        counts: Counter = Counter()
        for one in self.processes(but):
            with suppress(OSError):
                for fd in os.listdir(f"/proc/{one.pid}/fd"):
                    with suppress(OSError):
                        counts[re.sub(r"\d+", "N", os.readlink(f"/proc/{one.pid}/fd/{fd}").partition(" ")[0])] += 1
        return dict(counts)

    def connections(self, but=()) -> list[str]:
        """Return what sockets of connections there are, for reports."""
        told: Counter = Counter()
        for one in self.processes(but):
            with suppress(psutil.Error):
                for sock in one.net_connections("all"):
                    if sock.status not in ("LISTEN",) and (sock.raddr or sock.status != "NONE"):
                        told[f"{one.pid} {sock.family.name} {sock.laddr} {sock.raddr} {sock.status}"] += 1
                told[f"{one.pid} has {one.num_fds()} descriptors: {' '.join(one.cmdline()[-3:])}"] += 1
        return [f"{count} x {what}" for what, count in told.items()]

    def memory(self, but=()) -> int:
        total = 0
        for one in self.processes(but):
            with suppress(psutil.Error):
                total += one.memory_info().rss
        return total

    def is_alive(self) -> bool:
        """Tell whether the main process is there; reap what has ended."""
        self.process.poll()
        try:
            return psutil.Process(self.pid).status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False

    # ---- the end

    def stop(self, within: float) -> str:
        """Send TERM; return why that was no end in order, empty when it was one."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGTERM)
        end = time.monotonic() + within
        while self.is_alive():
            if time.monotonic() > end:
                return f"not ended {within} s after TERM"
            time.sleep(0.02)
        if self.pid == self.process.pid and self.process.wait() != 0:
            return f"exit code {self.process.returncode}"
        return ""

    def kill(self) -> None:
        """Leave nothing behind."""
        self._reading.set()
        for one in self.processes():
            if one.pid != os.getpid():
                with suppress(psutil.Error):
                    if "crowd" not in " ".join(one.cmdline()):
                        one.kill()
        with suppress(ProcessLookupError):
            self.process.kill()
        self.process.wait()
        self._reader.join(10)
