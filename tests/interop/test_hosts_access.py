# SPDX-License-Identifier: MIT
"""hosts.allow and hosts.deny: what sockd decides, and what tcpdmatch of the real library does (package tcpd).

Each case in a directory of its own, all of them in one mount namespace whose /etc/hosts has their names.
"""

from __future__ import annotations

import os
import re
import subprocess

import pytest
from access_cases import CASES, HOSTS
from unpacked import program

from sockd.net.listen.hosts_access import AccessClient, AccessRules

RUN = """
mount --bind "$1/hosts" /etc/hosts || exit 9
cd "$1"
for case in $2; do
    cd "$1/$case"
    echo "case $case"
    "$3" -d -i "$1/inetd.conf" $(cat client) 2>&1
done
"""


@pytest.fixture(scope="session")
def verdicts(tmp_path_factory):
    """What the real one decides, case by case."""
    tcpdmatch = program("tcpdmatch", "tcpd")
    if os.geteuid() != 0:
        pytest.skip("needs root for a mount namespace")
    directory = tmp_path_factory.mktemp("access")
    hosts = "".join(f"{address} {name}\n" for name, address in HOSTS.items()).replace("\\\n", "\n")
    (directory / "hosts").write_text(hosts)
    names = sorted({case.daemon for case in CASES} | {"in.otherd"})
    lines = (f"{7000 + index} stream tcp nowait root /bin/{name} {name}" for index, name in enumerate(names))
    (directory / "inetd.conf").write_text("\n".join(lines) + "\n")
    for index, case in enumerate(CASES):
        place = directory / str(index)
        place.mkdir()
        (place / "hosts.allow").write_text(f"{case.allow}\n")
        (place / "hosts.deny").write_text(f"{case.deny}\n")
        (place / "client").write_text(f"{case.daemon} {case.client}\n")
    numbers = " ".join(map(str, range(len(CASES))))
    command = ["unshare", "-m", "--propagation", "private", "sh", "-c", RUN, "sh", str(directory), numbers, tcpdmatch]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    if done.returncode == 9:
        pytest.skip("cannot mount in a namespace")
    parts = re.split(r"^case (\d+)\n", done.stdout, flags=re.MULTILINE)[1:]
    return {int(number): text for number, text in zip(parts[::2], parts[1::2], strict=True)}


def test_there_are_enough_cases():
    assert len(CASES) >= 60


@pytest.mark.parametrize("index", range(len(CASES)))
def test_the_real_library_decides_as_the_case_says(verdicts, index):
    case = CASES[index]
    found = re.findall(r"access: +(\w+)", verdicts[index])
    assert {word == "granted" for word in found} == {case.expected}, f"{case}\n{verdicts[index]}"


@pytest.mark.parametrize("case", CASES)
def test_sockd_decides_as_the_case_says(case):
    rules = AccessRules(f"{case.allow}\n", f"{case.deny}\n")
    assert rules.admit(AccessClient(case.daemon, case.host, name=case.name)) == case.expected
