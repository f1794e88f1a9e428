# SPDX-License-Identifier: MIT
"""The control socket of a service whose manager made a directory for it: there unless it is refused.

Before: no control socket unless `control` was set, also with what `sockctl import` wrote.
"""

from __future__ import annotations

import pytest
from controlling import Sockctl

LISTEN = '[[listen]]\naddress = "tcp://127.0.0.1:0"\nservice = "upper"\n'


@pytest.fixture
def runtime(tmp_path):
    directory = tmp_path / "runtime"
    directory.mkdir()
    return directory


def start(serve, runtime, daemon=""):
    environment = {"RUNTIME_DIRECTORY": f"{runtime}:/elsewhere"}  # two of them, as RuntimeDirectory=a b
    return serve(config=f"[daemon]\n{daemon}\n{LISTEN}", environment=environment)


def test_it_is_there_over_a_reload_and_an_upgrade(serve, runtime, tmp_path):
    server = start(serve, runtime)
    control = Sockctl(tmp_path)
    control.path = runtime / "control.sock"
    first = control.ask("status")["pid"]
    assert "at the next start" not in control.say("reload")
    assert control.ask("upgrade")["pid"] != first
    assert control.ask("status")["pid"] != first
    control.say("stop")
    server.wait()


@pytest.mark.parametrize("daemon", ['control = "none"', 'control = "{}/named"'])
def test_what_the_configuration_says_goes_first(serve, runtime, tmp_path, daemon):
    start(serve, runtime, daemon.format(tmp_path))
    assert not [*runtime.iterdir()]
    assert (tmp_path / "named").exists() == ("named" in daemon)
