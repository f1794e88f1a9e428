# SPDX-License-Identifier: MIT
"""What the compiler and the linker are asked for is in the installed extension, and in the library."""

from __future__ import annotations

import importlib.util
import platform
import re
import shutil
import subprocess
from pathlib import Path

import pytest

LIBRARY = Path(__file__).parents[1] / "csrc"


def read(path, *options):
    done = subprocess.run(["readelf", "-W", *options, path], capture_output=True, text=True, check=True)
    return done.stdout


@pytest.fixture(scope="module", params=["extension", "library"])
def made(request, tmp_path_factory):
    if shutil.which("readelf") is None:
        pytest.skip("package binutils is missing")
    if request.param == "extension":
        return importlib.util.find_spec("sockd._sockbuf").origin
    if not LIBRARY.is_dir():
        pytest.skip("csrc/ is not here")
    for there in (LIBRARY / "build").glob("libsockbuf.so.*.*"):
        if subprocess.run(["make", "-C", LIBRARY, "-q", f"build/{there.name}"], capture_output=True).returncode == 0:
            return there  # up to date
    directory = tmp_path_factory.mktemp("library")
    subprocess.run(["make", "-j2", "-C", LIBRARY, "-s", f"BUILD={directory}", "all"], check=True, capture_output=True)
    return next(directory.glob("libsockbuf.so.*"))


def test_every_relocation_is_done_at_the_start_and_read_only_then(made):
    assert "GNU_RELRO" in read(made, "-l")
    assert re.search(r"\(FLAGS\) +BIND_NOW|\(BIND_NOW\)", read(made, "-d"))


def test_the_stack_holds_no_code(made):
    (stack,) = [line for line in read(made, "-l").splitlines() if "GNU_STACK" in line]
    assert "E" not in stack.split()[-2]


def test_the_stack_is_guarded_and_calls_of_the_library_know_their_bounds(made):
    symbols = read(made, "--dyn-syms")
    assert "__stack_chk_fail" in symbols
    assert re.search(r"__\w+_chk\b", symbols.replace("__stack_chk_fail", ""))


@pytest.mark.skipif(platform.machine() != "x86_64", reason="endbr64 is x86's")
def test_jumps_lead_where_they_may(made):
    """The property of the whole file is missing where the C library's own parts have none, as on Debian 12."""
    code = subprocess.run(["objdump", "-d", "--no-show-raw-insn", made], capture_output=True, text=True, check=True)
    entries = re.findall(r"^[0-9a-f]+ <(?:sb_|sockd_)\w+>:\n\s*[0-9a-f]+:\s+(\w+)", code.stdout, re.MULTILINE)
    assert not entries or set(entries) == {"endbr64"}  # a stripped one has no names
    assert code.stdout.count("endbr64") > 50
