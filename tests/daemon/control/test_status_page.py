# SPDX-License-Identifier: MIT
"""The script of the status page, run by Node.js beside a daemon that does not answer; and who polls it over an upgrade.

Seen failing: a page that was open showed the previous process for as long as it stayed open, and so did Prometheus.
"""

from __future__ import annotations

import http.client
import json
import re
import shutil
import subprocess
from contextlib import closing
from importlib.resources import files

import pytest
from controlling import Sockctl
from watching import _until

AROUND = """
const state = {{ textContent: "serving" }};
globalThis.document = {{ getElementById: () => state }};
globalThis.fetch = (_path, options) => new Promise((_, fail) => {{
  options.signal?.addEventListener("abort", () => fail(options.signal.reason));
}});
globalThis.setTimeout = callback => {{ console.log(state.textContent); process.exit(); }};
setInterval(() => process.exit(1), 5000);
{script}
"""


def test_a_daemon_that_hangs_does_not_look_as_it_did_before():
    if shutil.which("node") is None:
        pytest.skip("needs Node.js")
    page = files("sockd").joinpath("daemon/control/status.html").read_text()
    script = re.sub(r"SILENT_MS = \d+", "SILENT_MS = 20", re.search(r"<script>(.*)</script>", page, re.S)[1])
    words = ["node", "--input-type=commonjs", "-e", AROUND.format(script=script.replace('"use strict";', ""))]
    done = subprocess.run(words, capture_output=True, text=True, timeout=20, check=False)
    assert (done.returncode, done.stdout) == (0, "does not answer\n"), done.stderr


@pytest.mark.parametrize("workers", [1, 2])
def test_who_polls_it_on_one_connection_sees_the_new_process_after_an_upgrade(serve, tmp_path, workers):
    sockctl = Sockctl(tmp_path)
    config = f'[daemon]\nworkers = {workers}\ncontrol = "{sockctl.path}"\n'
    server = serve(config=config + '[[listen]]\naddress = "tcp://127.0.0.1:0"\nservice = "metrics"\n')
    address = server.addresses[0].removeprefix("tcp://")
    with closing(http.client.HTTPConnection(address, timeout=20)) as poll:

        def pid():
            poll.request("GET", "/status.json")
            return json.load(poll.getresponse())["pid"]

        assert pid() == pid() == server.process.pid
        sock = poll.sock
        sockctl.ask("upgrade")
        assert sock.recv(1) == b""
        poll.close()
        assert pid() == sockctl.ask("status")["pid"] != server.process.pid
        _until(lambda: sockctl.ask("status")["previous_processes"] == 0)
    sockctl.run("stop", "--wait")
