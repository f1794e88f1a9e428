# SPDX-License-Identifier: MIT
"""`sockctl import` on the files that Debian's inetds ship or make; those of others are in tests/importer/samples/.

Seen failing with services whose `disable = yes` was taken although --all was not given, and with `#name` lines that
--all passed over.
"""

from __future__ import annotations

import re
import tomllib

import pytest
from unpacked import UNPACKED

SHIPPED = UNPACKED / "xinetd" / "etc" / "xinetd.d"
IMPORTED = {"chargen", "daytime", "discard", "echo", "time"}  # the others are xinetd's own
EX_CONFIG = 78


def test_what_xinetd_ships(run, sockctl, sockd, tmp_path):
    if not SHIPPED.is_dir():
        pytest.skip("package xinetd is missing; tests/interop/install unpacks it")
    as_shipped = run(sockctl, "import", SHIPPED)
    assert as_shipped.returncode == EX_CONFIG  # everything is disabled
    assert b"commented out: 0 left out, 17 disabled" in as_shipped.stderr
    done = run(sockctl, "import", "--all", SHIPPED)
    assert done.returncode == 0
    toml = tomllib.loads(done.stdout.decode())
    assert {listen["service"] for listen in toml["listen"]} == IMPORTED
    for name in ("servers", "services"):
        assert f"{name}: left out: internal".encode() in done.stderr
    for port in (7, 9, 13, 19, 37):  # echo-udp and its kin are the same as what echo has, where both are switched on
        assert f"includes every address, also udp://:{port}; remove one of the two".encode() in done.stderr
    (tmp_path / "sockd.toml").write_bytes(done.stdout)
    checked = run(sockd, "--check", "-c", tmp_path / "sockd.toml")
    assert checked.returncode == 0
    assert checked.stderr.endswith(b": configuration OK: 10 listeners\n")


@pytest.mark.parametrize(
    ("package", "services"),
    [
        (
            "openbsd-inetd",
            ["tcp://:echo", "tcp://:discard", "udp://:discard", "tcp://:daytime", "tcp://:time", "tcp://:chargen"],
        ),
        ("inetutils-inetd", ["tcp://[::]:discard", "udp://[::]:discard", "tcp://[::]:daytime", "tcp://[::]:time"]),
    ],
)
def test_what_an_inetd_makes_where_none_was(run, sockctl, sockd, tmp_path, package, services):
    """Their inetd.conf is in no package: it is written by the script that precedes the installation."""
    script = UNPACKED / package / "DEBIAN" / "preinst"
    if not script.is_file():
        pytest.skip(f"package {package} is missing; tests/interop/install unpacks it")
    (written,) = re.findall(r"<<EOF > /etc/inetd.conf\n(.*?)^EOF$", script.read_text(), re.DOTALL | re.MULTILINE)
    path = tmp_path / "inetd.conf"
    path.write_text(written)
    as_shipped = run(sockctl, "import", path)
    assert as_shipped.returncode == EX_CONFIG
    assert f"commented out: 0 left out, {len(services)} disabled".encode() in as_shipped.stderr
    done = run(sockctl, "import", "--all", path)
    assert done.returncode == 0
    assert [listen["address"] for listen in tomllib.loads(done.stdout.decode())["listen"]] == services
    (tmp_path / "sockd.toml").write_bytes(done.stdout)
    checked = run(sockd, "--check", "-c", tmp_path / "sockd.toml")
    assert checked.returncode == 0
    assert checked.stderr.endswith(f": configuration OK: {len(services)} listeners\n".encode())
