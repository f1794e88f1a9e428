# SPDX-License-Identifier: MIT
"""The daemon under test: `python -m sockd` as a child, observed through its log.

Its log is JSON, read by a thread as it comes, so that nobody waits for a full pipe.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import IO, TYPE_CHECKING

from sockd.net.address.address import Address, resolve_endpoints
from sockd.wire.control import JsonObject

if TYPE_CHECKING:
    from collections.abc import Callable

    from sockd.net.address.sockaddr import Endpoint

PATIENCE_SECONDS = 10.0
"""For what should take milliseconds: past it, something hangs."""
ROOT = Path(__file__).parents[2]
LOG = 'log = { format = "json" }'
STAY_ROOT = ("--user", "root") if os.geteuid() == 0 else ()
"""Root that tries its host on loopback stays root; a service has to be told so."""

Record = JsonObject


class CheckFailed(Exception):
    """A check has failed; str() is the observation."""


class DaemonProcess:
    """A running daemon.

    Args:
        toml: its configuration, less the log, which is set here.
        directory: where the file is written, and its current directory.
        daemon: further lines of [daemon].

    Raises:
        CheckFailed: it ended before it served.
    """

    def __init__(self, toml: str, directory: Path, daemon: str = "") -> None:
        self._said: list[str] = []
        self._records: list[Record] = []
        self._news = threading.Condition()
        self._greeting: list[bytes] = []
        self._ended = False
        file = directory / f"sockd-{time.monotonic_ns()}.toml"
        file.write_text(f"[daemon]\n{LOG}\n{daemon}\n{toml}", encoding="utf-8")
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "sockd", "--foreground", "--config", str(file), *STAY_ROOT],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=directory,
            env=environment(),
        )
        self._pipes = [pipe for pipe in (self._process.stderr, self._process.stdout) if pipe is not None]
        self._readers = [
            threading.Thread(target=each, args=(pipe,), daemon=True)
            for each, pipe in zip((self._read_log, self._read_greeting), self._pipes, strict=True)
        ]
        for reader in self._readers:
            reader.start()
        if not self._wait(lambda: self._serves() or self._ended, PATIENCE_SECONDS) or self._ended:
            self.stop()
            raise CheckFailed(self.words or "the daemon did not start in time")

    def _read_log(self, pipe: IO[bytes]) -> None:
        for line in pipe:
            text = line.decode(errors="replace").rstrip("\n")
            with self._news:
                if text.startswith("{"):
                    self._records.append(json.loads(text))
                else:
                    self._said.append(text)
                self._news.notify_all()
        with self._news:
            self._ended = True
            self._news.notify_all()

    def _read_greeting(self, pipe: IO[bytes]) -> None:
        for line in pipe:
            with self._news:
                self._greeting.append(line)
                self._news.notify_all()

    def _serves(self) -> bool:
        """Tell whether the greeting is whole, and the log has every listener of it: these are two pipes."""
        listed = sum(line.startswith(b" ") for line in self._greeting)
        listening = sum(one["message"] == "listening" for one in self._records)
        return bool(self._greeting) and self._greeting[-1].startswith(b"Press Ctrl-C") and listening == listed

    def _wait(self, true: Callable[[], object], seconds: float) -> bool:
        with self._news:
            return bool(self._news.wait_for(true, seconds))

    # ---- what it says

    @property
    def pid(self) -> int:
        """Its process."""
        return self._process.pid

    @property
    def words(self) -> str:
        """Why it did not start: the reason that its log gives, and what is no log line."""
        reasons = [str(one["error"]) for one in self._records if one["message"] == "not serving"]
        return "; ".join([*reasons, *self._said])

    def record(self, message: str, **fields: object) -> Record:
        """Wait for a line of the log.

        Raises:
            CheckFailed: none came; says which ones with this message did.
        """

        def find() -> Record | None:
            for one in self._records:
                if one["message"] == message and all(one.get(key) == value for key, value in fields.items()):
                    return one
            return None

        if self._wait(find, PATIENCE_SECONDS) and (found := find()):
            return found
        others = [one for one in self._records if one["message"] == message]
        raise CheckFailed(f"the log has no {message!r} with {fields}, only {others[-3:]}")

    def reason(self, peer: str) -> str:
        """Wait for the end of a connection; why it ended."""
        return str(self.record("closed", peer=peer)["reason"])

    def ended(self) -> list[Record]:
        """List the ends of connections so far."""
        return [one for one in self._records if one["message"] == "closed"]

    def addresses(self, service: str, scheme: str = "tcp") -> list[str]:
        """List where a service listens, as text."""
        listening = [one for one in self._records if one["message"] == "listening" and one["service"] == service]
        return [str(one["address"]) for one in listening if str(one["address"]).partition(":")[0] == scheme]

    def endpoint(self, service: str, scheme: str = "tcp") -> Endpoint:
        """Return the first place where a service listens."""
        return resolve_endpoints(Address.parse(self.addresses(service, scheme)[0]), passive=False)[0]

    def port(self, service: str, scheme: str = "tcp") -> int:
        """Return the port of that place."""
        return self.endpoint(service, scheme).port

    # ---- what is done to it

    def freeze(self) -> None:
        """Stop it (SIGSTOP), and wait until the kernel has."""
        self._process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, self.pid, os.WSTOPPED | os.WNOWAIT)

    def thaw(self) -> None:
        """Let it go on."""
        self._process.send_signal(signal.SIGCONT)

    def cpu_seconds(self) -> float:
        """Tell the processor time it has used."""
        import psutil

        times = psutil.Process(self.pid).cpu_times()
        return float(times.user + times.system)

    def stop(self) -> None:
        """End it (SIGTERM, then SIGKILL), and its readers; again does nothing."""
        if self._process.poll() is None:
            self.thaw()
            self._process.terminate()
        try:
            self._process.wait(PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for reader in self._readers:
            reader.join(PATIENCE_SECONDS)
        for pipe in self._pipes:
            pipe.close()


def environment() -> dict[str, str]:
    """Return the environment in which a child finds this very package."""
    paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
    return os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}


def run_sockd(
    *words: str, directory: Path, input: bytes = b"", stdin: IO[bytes] | None = None
) -> subprocess.CompletedProcess[bytes]:
    """Run `sockd` to its end in a directory, its standard input a pipe with the input, or a file."""
    return _run("sockd", words, input, stdin, directory)


def run_sockctl(*words: str, input: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """Run `sockctl` to its end."""
    return _run("sockd.cli.sockctl", words, input, None, None)


def _run(
    module: str, words: tuple[str, ...], input: bytes, stdin: IO[bytes] | None, directory: Path | None
) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-P", "-m", module, *words],
        input=None if stdin else input,
        stdin=stdin,
        capture_output=True,
        check=False,
        cwd=directory,
        env=environment(),
        timeout=PATIENCE_SECONDS,
    )
