# SPDX-License-Identifier: MIT
"""What there is stands in one list: built-ins, control verbs, log levels, framings, limits and kinds of a service.

Everything else is read from it: these tests fail where a place has a list of its own, or an entry without its code.
"""

from __future__ import annotations

import inspect
import re
from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace
from typing import get_args, get_type_hints

import pytest

from sockd.cli import sockctl
from sockd.cli.sockd_parser import make_parser
from sockd.config.convert import allowed, field_types
from sockd.config.dump import dump
from sockd.config.load import loads
from sockd.daemon.control.commands import ControlCommands
from sockd.errors import ConfigurationError, UsageError
from sockd.log.format import LEVELS
from sockd.net.connection.group import GroupOptions
from sockd.services import resolve
from sockd.services.api import Service
from sockd.services.builtin import CODE
from sockd.services.kinds import MetricsKind
from sockd.settings import LogLevel, LogSettings, Settings, builtin
from sockd.settings.framing import FRAMINGS, FramingName, FramingSettings, resolve_framing
from sockd.settings.limits import LIMITS, Limits, LimitSettings
from sockd.settings.service import KINDS, SERVICE_KEYS, ServiceSettings
from sockd.wire.control import VERBS
from sockd.wire.framing import Framing

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "packaging" / "man" / "sockd.toml.5"
EXAMPLES = {"delimiter": ";", "width": 4, "size": 16, "format": "!IHd"}


def problems(text):
    with pytest.raises(ConfigurationError) as caught:
        loads(text, name="x", listens=False)
    return str(caught.value)


# ---- built-in services


def test_each_builtin_has_its_code_and_its_name():
    assert {*CODE, MetricsKind.key} == builtin.BUILTINS.keys() == set(get_args(builtin.BuiltinName))


@pytest.mark.parametrize("name", builtin.BUILTINS)
def test_a_builtin_is_known_everywhere(name):
    assert loads(f"[[listen]]\naddress = 'tcp://:1'\nservice = '{name}'\n", name="x").listen[0].service == name
    assert loads(f"[service.a]\nbuiltin = '{name}'\n", name="x", listens=False).service["a"].builtin == name
    assert resolve.resolve(name, {}).name == name
    about = {field.name: field.metadata["help"] for field in fields(ServiceSettings)}["builtin"]
    assert name in re.findall(r"[a-z]+", about)


def test_what_inetd_has_within_is_a_builtin():
    assert set(builtin.INETD_BUILTINS.values()) <= builtin.BUILTINS.keys()


def test_an_imported_service_takes_no_builtins_name(tmp_path):
    """It was taken for "metrics", and then left out."""
    from sockd.importer.convert import _Writer

    assert _Writer(lambda text: None, with_disabled=False)._name("metrics") == "metrics-2"


# ---- framings


def test_each_framing_has_its_name_and_its_value():
    assert FRAMINGS.keys() == set(get_args(FramingName))
    given = {name: {form.needs: EXAMPLES[form.needs]} if form.needs else {} for name, form in FRAMINGS.items()}
    made = {
        name: resolve_framing(ServiceSettings(framing=FramingSettings(type=name, **more)), None)
        for name, more in given.items()
    }
    assert {type(one) for one in made.values()} == set(get_args(Framing))


def test_the_keys_of_framings_are_those_of_the_table():
    keys = {key for form in FRAMINGS.values() for key in form.keys}
    assert keys == {field.name for field in fields(FramingSettings)} - {"type"}


@pytest.mark.parametrize("name", FRAMINGS)
def test_a_framing_is_documented(name):
    assert f'"{name}"' in (ROOT / "docs" / "handlers.md").read_text(encoding="utf-8")
    assert f'"{name}"' in allowed(field_types(FramingSettings)["type"], {})


# ---- limits


def test_the_limits_are_the_same_wherever_they_are_typed():
    assert tuple(get_type_hints(Limits)) == LIMITS
    parameters = inspect.signature(Service).parameters
    assert set(LIMITS) <= parameters.keys()
    assert Service().limits.keys() == set(LIMITS)
    assert set(LIMITS) - {"max_connections"} <= {field.name for field in fields(GroupOptions)}


def test_a_limit_is_what_the_table_says_or_the_service_or_the_list():
    own = Service(idle_timeout=7, high_water=5)
    spec = resolve.resolve_service("a", own_function(own))
    assert (spec.limits.idle_timeout, spec.limits.high_water) == (7.0, 5)
    expected = {field.name: field.metadata["otherwise"] for field in fields(LimitSettings)} | own_limits(own)
    assert {name: getattr(spec.limits, name) for name in LIMITS} == expected


def own_function(service):
    service.frame(lambda line: line)
    return service


def own_limits(service):
    return {name: value for name, value in service.limits.items() if value is not None}


@pytest.mark.parametrize("name", LIMITS)
def test_a_limit_is_known_everywhere(name):
    page = dump(Settings(service={"a": ServiceSettings(handler="app:x")}))
    default = {field.name: field.metadata["otherwise"] for field in fields(LimitSettings)}[name]
    assert default is None or f"#{name} = " in page
    if PAGE.exists():
        assert f".It Ic {name}" in PAGE.read_text(encoding="utf-8")


# ---- kinds


def test_every_key_goes_with_some_kind_and_none_with_all_in_secret():
    taken = {key for rules in KINDS.values() for key in rules.keys}
    assert taken == set(SERVICE_KEYS)


@pytest.mark.parametrize("kind", KINDS)
def test_a_key_without_a_meaning_is_refused(kind):
    """Blocking relays and goodbyes of SOCKS servers were read and had no effect."""
    values = {
        "framing": '"line"', "goodbye": '"bye"', "blocking": "true", "user": '"nobody"', "group": '"nogroup"',
        "environment": "[]", "stderr": '"log"', "limits": "{}", "max_instances": "1", "max_frame": "1",
        **dict.fromkeys(LIMITS, "1"),
    }  # fmt: skip
    head = f"[service.a]\n{KINDS[kind].example}\n".replace("host:port", "a:1").replace("+rsync", "b")
    for key, value in values.items():
        if key == "group":
            continue  # which wants a user
        if key in KINDS[kind].keys:
            assert loads(f'{head}{key} = {value}\n[service.b]\nexec = ["/b"]\n', name="x", listens=False)
        else:
            assert f"x:3: service.a.{key}: " in problems(f'{head}{key} = {value}\n[service.b]\nexec = ["/b"]\n')


# ---- levels and verbs


SERVING = SimpleNamespace(tools=SimpleNamespace(connections=None))


def test_levels_are_those_of_the_setting():
    assert tuple(LEVELS) == get_args(LogLevel)
    assert all(f'"{level}"' in allowed(field_types(LogSettings)["level"], {}) for level in LEVELS)
    assert all(level in make_parser().format_help() for level in LEVELS)


def test_each_verb_is_answered_and_asked():
    answered = ControlCommands(None, SERVING, None, None, None).verbs()
    assert answered.keys() == VERBS.keys()
    text = sockctl.make_parser().format_help()
    assert all(re.search(rf"^ +{verb} ", text, re.MULTILINE) for verb in VERBS)


def test_a_wrong_level_names_all():
    with pytest.raises(UsageError, match=", ".join(LEVELS)):
        ControlCommands(None, SERVING, None, None, None).verbs()["log-level"]({"level": "loud"})
