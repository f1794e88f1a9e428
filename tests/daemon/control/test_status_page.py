# SPDX-License-Identifier: MIT
"""The script of the status page, run by Node.js beside a daemon that does not answer."""

from __future__ import annotations

import re
import shutil
import subprocess
from importlib.resources import files

import pytest

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
