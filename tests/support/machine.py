# SPDX-License-Identifier: MIT
"""A real systemd: booted by systemd-nspawn over an overlay of this host's root, with sockd installed in it.

Nothing of it outlives the tests and nothing of the host is changed: what is written goes to a
tmpfs, and network, processes and /tmp are its own.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest

BOOT_S = 60
LIMIT_S = 60
PACKAGES = ("sockd", "cffi", "_cffi_backend", "msgspec", "psutil", "pycparser")
PACKAGING = Path(__file__).parents[2] / "packaging" / "systemd"
PYTHON = Path("/opt/python")  # where the interpreter of the tests stands inside, out of ProtectHome='s reach
VENV = Path("/opt/sockd")
SCRIPT = """\
#!{python}
import sys
from {module} import main
sys.exit(main())
"""


class Machine:
    """A booted systemd.

    Attributes:
        root: its root directory, seen from outside; what is written there is there.
    """

    def __init__(self, process: subprocess.Popen, console: Path) -> None:
        self.process = process
        self.console = console
        self.leader = self._wait_for_leader()
        self.root = Path(f"/proc/{self.leader}/root")
        self._wait_for_boot()

    def _wait_for_leader(self) -> int:
        """The one child of systemd-nspawn is process 1 inside."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")

        def find() -> int:
            return next((int(pid) for pid in children.read_text().split() if _is_systemd(pid)), 0)

        return self._until(find, "process 1")

    def _wait_for_boot(self) -> None:
        states = ("running", "degraded")
        self._until(lambda: self.run("systemctl", "is-system-running", check=False) in states, "a booted system")

    def _until(self, tell, what: str):
        end = time.monotonic() + BOOT_S
        while not (told := tell()):
            if self.process.poll() is not None or time.monotonic() > end:
                pytest.fail(f"waited in vain for {what}; the console says:\n{self.console.read_text()[-4000:]}")
            time.sleep(0.05)  # only until the next look
        return told

    def command(self, *words) -> list[str]:
        """A command line that runs inside."""
        return ["nsenter", "-t", str(self.leader), "-a", *map(str, words)]

    def run(self, *words, check=True, input=None) -> str:
        """Run inside and return standard output."""
        done = subprocess.run(self.command(*words), input=input, capture_output=True, text=True, timeout=LIMIT_S)
        assert not check or done.returncode == 0, f"{words}: {done.returncode}\n{done.stderr}\n{self.journal()}"
        return done.stdout.strip()

    def journal(self, *words) -> str:
        return self.run("journalctl", "--no-pager", "-o", "cat", *words, check=False)[-4000:]

    def show(self, unit: str, name: str) -> str:
        return self.run("systemctl", "show", "--value", "-p", name, unit)

    def start(self, unit: str) -> None:
        self.run("systemctl", "start", unit)

    def stop(self, *units: str) -> None:
        self.run("systemctl", "stop", *units, check=False)

    def write(self, path: str, text: str) -> None:
        file = self.root / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def ask(self, address: str, line: str = "hello") -> str:
        """Ask by sockctl, inside."""
        return self.run("/usr/local/bin/sockctl", "connect", address, input=f"{line}\n")

    def status(self, unit: str) -> dict[str, list[str]]:
        """The fields of /proc/PID/status of its main process."""
        text = self.run("cat", f"/proc/{self.show(unit, 'MainPID')}/status")
        return {key: value.split() for key, _, value in (line.partition(":") for line in text.splitlines())}

    def power_off(self) -> None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            subprocess.run(self.command("systemctl", "poweroff"), capture_output=True, timeout=LIMIT_S)
            self.process.wait(LIMIT_S)
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


def _is_systemd(pid: str) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/comm").read_text().strip() == "systemd"
    return False


def install(upper: Path) -> None:
    """Put into a root directory what the wheel, its dependencies and the packaging install."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    packages = upper / VENV.relative_to("/") / "lib" / version / "site-packages"
    packages.mkdir(parents=True)
    here = next(Path(path) for path in sys.path if (Path(path) / "msgspec").is_dir())
    for found in here.iterdir():
        if found.name.startswith(PACKAGES):
            copy = shutil.copytree if found.is_dir() else shutil.copy2
            copy(found, packages / found.name)
    commands = upper / VENV.relative_to("/") / "bin"
    commands.mkdir()
    (commands / "python").symlink_to(PYTHON / "bin" / version)
    (commands.parent / "pyvenv.cfg").write_text(f"home = {PYTHON / 'bin'}\n")
    scripts = upper / "usr/local/bin"
    scripts.mkdir(parents=True)
    for name, module in (("sockd", "sockd.cli.start"), ("sockctl", "sockd.cli.sockctl")):
        (scripts / name).write_text(SCRIPT.format(python=VENV / "bin/python", module=module))
        (scripts / name).chmod(0o755)
    library = upper / "usr/local/lib"
    for kind in ("sysusers.d", "tmpfiles.d"):
        shutil.copytree(PACKAGING / kind, library / kind)
    units = library / "systemd/system"
    units.mkdir(parents=True)
    for unit in (*PACKAGING.glob("*.service"), *PACKAGING.glob("*.socket")):
        shutil.copy(unit, units)
    examples = upper / "usr/local/share/doc/sockd/examples/systemd"
    shutil.copytree(PACKAGING / "drop-ins", examples)
    shutil.copy(PACKAGING / "sockd.toml", examples)


def _needed() -> str:
    """Say what is missing; empty when a machine can be booted here."""
    if os.geteuid() != 0:
        return "needs root"
    for program in ("systemd-nspawn", "nsenter", "mount"):
        if shutil.which(program) is None:
            return f"{program} is not here"
    if not Path("/lib/systemd/systemd").exists():
        return "there is no systemd to boot"
    return ""


@pytest.fixture(scope="session")
def machine(tmp_path_factory):
    """A real systemd, booted once; skips where that cannot be."""
    if missing := _needed():
        pytest.skip(missing)
    room = tmp_path_factory.mktemp("machine")
    with contextlib.ExitStack() as stack:

        def mount(*words, on: Path) -> None:
            done = subprocess.run(["mount", *words, on], capture_output=True, text=True)
            if done.returncode:
                pytest.skip(f"cannot mount here: {done.stderr.strip()}")
            stack.callback(subprocess.run, ["umount", "-l", on], check=True)

        mount("-t", "tmpfs", "-o", "size=1g", "tmpfs", on=room)
        upper, work, root = room / "upper", room / "work", room / "root"
        for directory in (upper, work, root):
            directory.mkdir()
        install(upper)
        mount("-t", "overlay", "overlay", "-o", f"lowerdir=/,upperdir={upper},workdir={work}", on=root)
        console = room / "console"
        name = f"sockd-{uuid.uuid4().hex[:8]}"
        options = ["--register=no", "--keep-unit", "--private-network", "--console=pipe"]
        python = f"--bind-ro={sys.base_prefix}:{PYTHON}"
        command = ["systemd-nspawn", "-q", "-D", root, f"--machine={name}", *options, python, "--boot"]
        with open(console, "wb") as output:
            process = subprocess.Popen(
                [*command, "systemd.unit=basic.target"],
                stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True,
            )  # fmt: skip
        try:
            process.wait(1)
        except subprocess.TimeoutExpired:
            pass
        else:
            pytest.skip(f"systemd-nspawn cannot run here: {console.read_text()[-500:]}")
        try:
            booted = Machine(process, console)
        except BaseException:
            process.kill()
            process.wait()
            raise
        stack.callback(booted.power_off)
        booted.run("systemd-sysusers")
        booted.run("systemd-tmpfiles", "--create")
        shutil.copy(PACKAGING / "sockd.toml", booted.root / "etc/sockd/sockd.toml")
        yield booted
