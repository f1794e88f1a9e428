"""`sockctl import` on the files that Debian's xinetd ships; those of others are in tests/importer/samples/.

Seen failing with services whose `disable = yes` was taken although --all was not given.
"""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

SHIPPED = Path(__file__).parents[2] / "build" / "interop" / "xinetd" / "etc" / "xinetd.d"
IMPORTED = {"chargen", "daytime", "discard", "echo", "time"}  # the others are xinetd's own
EX_CONFIG = 78


def test_what_xinetd_ships(run, sockctl, sockd, tmp_path):
    if not SHIPPED.is_dir():
        pytest.skip("package xinetd is missing; tests/interop/install unpacks it")
    as_shipped = run(sockctl, "import", SHIPPED)
    assert as_shipped.returncode == EX_CONFIG  # everything is disabled
    assert b"as comments 0 left out, 17 disabled" in as_shipped.stderr
    done = run(sockctl, "import", "--all", SHIPPED)
    assert done.returncode == 0
    toml = tomllib.loads(done.stdout.decode())
    assert {listen["service"] for listen in toml["listen"]} == IMPORTED
    for name in ("servers", "services"):
        assert f"{name}: left out: internal".encode() in done.stderr
    (tmp_path / "sockd.toml").write_bytes(done.stdout)
    checked = run(sockd, "--check", "-c", tmp_path / "sockd.toml")
    assert checked.returncode == 0
    assert checked.stderr.endswith(b": in order, 15 listeners\n")
