# SPDX-License-Identifier: MIT
"""docs/reference.md has every key, option and verb, and its examples are read by sockd.

Seen failing with a key left out. That the page is current: test_man_pages.py::test_what_is_made_is_current.
"""

from __future__ import annotations

import re
import sys
from dataclasses import fields
from pathlib import Path

import pytest

from sockd.cli import sockctl, sockd
from sockd.config.load import loads
from sockd.settings import toml_key

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs/reference.md"
pytestmark = pytest.mark.skipif(not PAGE.exists(), reason="the tests stand alone, without docs/")
REST = """
[[listen]]
address = "tcp://127.0.0.1:7007"
service = "greet"
"""


@pytest.fixture(scope="module")
def generator():
    sys.path.insert(0, str(ROOT / "packaging"))
    try:
        from generator import reference
    finally:
        sys.path.pop(0)
    return reference


def sections():
    return dict(re.findall(r"^#+ (.*?)\n(.*?)(?=^#+ |\Z)", PAGE.read_text(), re.MULTILINE | re.DOTALL))


def test_every_key(generator):
    for name, table in generator.TABLES.items():
        body = sections()[generator.HEADINGS[name]]
        for field in fields(table):
            assert f"| `{toml_key(field.name)}` |" in body, f"{name}.{field.name}"


def test_every_option_and_verb():
    text = PAGE.read_text()
    for parser in (sockd.make_parser(), sockctl.make_parser()):
        for action in parser._actions:
            for flag in action.option_strings:
                assert f"`{flag}" in text, flag
            if action.dest == "verb":
                for verb in action.choices:
                    assert f"\n## sockctl {verb}\n" in text, verb


OF_LISTENER = {"keepalive", "rate", "total_rate", "hosts_access", "proxy_protocol", "tls"}
OF_SERVICE = {"framing": 'handler = "app:f"', "limits": 'exec = ["/bin/cat"]', "relay": "", "check": "", "socks": ""}


def test_the_examples_are_read(generator):
    assert generator.EXAMPLES.keys() == generator.TABLES.keys()
    for name, example in generator.EXAMPLES.items():
        if name == "listen":
            text = example
        elif name in OF_LISTENER:
            text = f'{REST}{example}\n[service.greet]\nbuiltin = "upper"'
        elif name == "check":
            text = f'{REST}[service.greet]\nrelay = {{ to = ["tcp://10.0.0.5:25"], {example} }}'
        elif name in OF_SERVICE:
            text = f"{REST}[service.greet]\n{OF_SERVICE[name]}\n{example}"
        elif name == "service":
            text = f"{example}\n{REST}"
        else:
            text = f'{example}\n{REST}[service.greet]\nbuiltin = "upper"'
        assert loads(text, name=name, directory="/etc/sockd").listen, name
