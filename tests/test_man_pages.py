# SPDX-License-Identifier: MIT
"""Manual pages: current, without a fault, and of one mind with --help and with the settings.

Seen failing, each once: an option's help changed (the pages are not current), an entry taken out of a page.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

from sockd.cli import sockctl, sockd_parser
from sockd.settings import daemon, listen, relay, service, socks, tls, toml_key

ROOT = Path(__file__).parents[1]
PACKAGING = ROOT / "packaging"
PAGES = sorted((PACKAGING / "man").glob("*.[158]"))
BIN = Path(sys.executable).parent
VERBS = (
    "connect", "selftest", "bind", "import",
    "status", "connections", "close", "drain", "undrain", "reload", "plan", "upgrade", "stop", "log-level",
    "deny", "allow", "limit", "rate", "target", "overrides", "clear", "certificates", "trace", "events", "top",
    "password",
)  # fmt: skip
LIMIT_S = 60

pytestmark = pytest.mark.skipif(not PAGES, reason="the tests stand alone, without packaging/")


def run(*words, **options):
    return subprocess.run(list(map(str, words)), capture_output=True, text=True, timeout=LIMIT_S, **options)


def plain(text):
    """The words of a text: no overstriking, no hyphenation at ends of lines, one blank between them."""
    text = re.sub(r".\x08", "", text)
    return " ".join(re.sub(r"[\u2010\u2212]", "-", text).split())


@pytest.fixture(scope="module")
def rendered():
    """`rendered(name)`: the words of a page as man(1) shows them."""
    if shutil.which("man") is None or shutil.which("groff") is None:
        pytest.skip("needs man(1) and groff(1)")

    def render(name):
        done = run(
            "man",
            "-l",
            PACKAGING / "man" / name,
            env={"MANWIDTH": "2000", "LC_ALL": "C.UTF-8", "PATH": "/usr/bin:/bin"},
        )
        assert done.returncode == 0, done.stderr
        return plain(done.stdout)

    return render


def test_every_verb_is_in_the_synopsis_with_its_options(rendered):
    """Before: half of the verbs, and `stop` without --wait."""
    synopsis = rendered("sockctl.1").partition(" SYNOPSIS ")[2].partition(" DESCRIPTION ")[0]
    found = {line.partition(" ")[0]: line.strip() for line in synopsis.split("sockctl ")[1:]}
    assert tuple(found) == VERBS
    assert re.search(r"\[--control PATH\].*\[--wait\]", found["stop"])
    assert found["selftest"].endswith("[QUESTION ...]")
    assert found["bind"].endswith("-- PROGRAM [ARG ...]")


def test_values_are_written_as_they_are(rendered):
    """Before: Debug, info, warning, error."""
    assert " LEVEL debug, info, warning, error. " in rendered("sockctl.1")
    assert " stderr, syslog, journal, udp://" in rendered("sockd.toml.5")


def test_what_is_made_is_current():
    done = run(sys.executable, PACKAGING / "generate", "--check", cwd="/")
    assert done.returncode == 0, f"{done.stdout}{done.stderr}; make generated"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_mandoc_finds_no_fault(page):
    if shutil.which("mandoc") is None:
        pytest.skip("needs mandoc(1)")
    done = run("mandoc", "-T", "lint", "-W", "warning", page)
    assert (done.stdout, done.stderr, done.returncode) == ("", "", 0)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_man_finds_no_fault(page):
    if shutil.which("man") is None:
        pytest.skip("needs man(1)")
    done = run("man", "--warnings", "-E", "UTF-8", "-l", "-Tutf8", "-Z", page)
    assert (done.stderr, done.returncode) == ("", 0)


@pytest.mark.parametrize("words", [("sockd",), ("sockctl",), *(("sockctl", verb) for verb in VERBS)], ids=" ".join)
def test_every_option_of_help_is_in_the_page(words, rendered):
    done = run(BIN / words[0], *words[1:], "--help", cwd="/")
    assert done.returncode == 0
    flags = set(re.findall(r"(?<![\w-])--?[a-z][\w-]*", done.stdout.partition("options:")[2], re.I))
    assert "--help" in flags
    page = rendered("sockd.8" if words[0] == "sockd" else "sockctl.1")
    if len(words) > 1:
        page = page.partition(f"sockctl {words[1]} ".upper() if False else f" sockctl {words[1]} ")[2]
        flags -= {"-h", "--help"}
    assert not {flag for flag in flags if flag not in page}


def arguments(parser):
    for action in parser._actions:
        if action.dest == "verb":
            assert tuple(action.choices) == VERBS
            for verb, one in action.choices.items():
                yield from ((f"{verb} {where}", text) for where, text in arguments(one))
                assert one.description
        else:
            yield "/".join(action.option_strings) or action.metavar, parser._get_formatter()._expand_help(action)


@pytest.mark.parametrize(
    ("module", "page"), [(sockd_parser, "sockd.8"), (sockctl, "sockctl.1")], ids=["sockd", "sockctl"]
)
def test_every_option_says_in_the_page_what_it_says_in_help(module, page, rendered):
    text = rendered(page).lower()
    for where, help_text in arguments(module.make_parser()):
        assert help_text, f"{where} has no help"
        if "--help" not in where:
            assert plain(help_text).lower() in text, where


def test_every_key_is_in_the_page_with_its_help(rendered):
    text = rendered("sockd.toml.5").lower()
    modules = [daemon, listen, relay, service, socks, tls]
    known = {name: kind for module in modules for name, kind in vars(module).items()}
    tables = [kind for name, kind in known.items() if name.endswith(("Settings", "Limits"))]
    assert len(tables) >= 13
    for table in tables:
        for field in fields(table):
            about = field.metadata["help"]
            assert plain(f"{toml_key(field.name)} {about}").lower() in text, f"{table.__name__}.{field.name}"
            if field.metadata["source"]:
                assert plain(field.metadata["source"]).lower() in text, field.name
