"""Completions for bash, zsh and fish, made whole from the parsers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from generator import commands
from sockd.selftest import CHECKS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from generator.commands import Argument, Command

SCHEMES = ("tcp://", "udp://", "unix:/", "unixgram:/")
WORDS = {"ADDRESS": SCHEMES, "[NAME=]ADDRESS": SCHEMES, "ADDRESS=SERVICE": SCHEMES}
KINDS = {"FILE": "file", "FOLDER": "folder", "USER": "user", "GROUP": "group"}
"""What a value is, by the name that it has in --help."""
_MADE = "# Made by packaging/generate; the options are those of the parsers."


def all_completions(folder: Path) -> dict[Path, str]:
    """Return the whole text of each file."""
    programs = (commands.sockd(), commands.sockctl())
    made: dict[Path, str] = {}
    for one in programs:
        made[folder / "bash" / one.name] = "\n".join(_bash(one)) + "\n"
        made[folder / "zsh" / f"_{one.name}"] = "\n".join(_zsh(one)) + "\n"
        made[folder / "fish" / f"{one.name}.fish"] = "\n".join(_fish(one)) + "\n"
    return made


def _values(one: Argument) -> tuple[str, ...]:
    rows = tuple(check.row for check in CHECKS) if one.metavar == "QUESTION" else ()
    return one.values or WORDS.get(one.metavar, ()) or rows


def _named(command: Command) -> list[Argument]:
    return [one for one in command.arguments if one.flags]


def _positional(command: Command) -> list[Argument]:
    return [one for one in command.arguments if not one.flags]


# ---- bash

_BASH_KINDS = {
    "file": 'compopt -o filenames; COMPREPLY=($(compgen -f -- "$word"))',
    "folder": 'compopt -o filenames; COMPREPLY=($(compgen -d -- "$word"))',
    "user": 'COMPREPLY=($(compgen -u -- "$word"))',
    "group": 'COMPREPLY=($(compgen -g -- "$word"))',
}


def _bash_reply(one: Argument) -> str:
    if words := _values(one):
        return f'COMPREPLY=($(compgen -W "{" ".join(words)}" -- "$word"))'
    return _BASH_KINDS.get(KINDS.get(one.metavar, ""), "COMPREPLY=()")


def _bash_case(command: Command, indent: str) -> Iterator[str]:
    yield f'{indent}case "$before" in'
    for one in _named(command):
        if one.metavar:
            yield f"{indent}    {' | '.join(one.flags)}) {_bash_reply(one)}; return ;;"
    yield f"{indent}esac"
    flags = " ".join(flag for one in _named(command) for flag in one.flags)
    yield f'{indent}if [[ $word == -* ]]; then COMPREPLY=($(compgen -W "{flags}" -- "$word")); return; fi'
    for one in _positional(command):
        yield f"{indent}{_bash_reply(one)}"


def _bash(command: Command) -> Iterator[str]:
    name = f"_{command.name}"
    yield f"# bash completion for {command.name}(1)."
    yield _MADE
    yield f"{name}() {{"
    yield "    local word before verb"
    yield "    word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]}"
    # An equals sign parts words (COMP_WORDBREAKS), and is one itself.
    yield "    [[ $word != = ]] || word="
    yield "    [[ $before != = ]] || before=${COMP_WORDS[COMP_CWORD - 2]}"
    yield "    COMPREPLY=()"
    if command.verbs:
        yield "    verb=${COMP_WORDS[1]}"
        yield "    if ((COMP_CWORD > 1)); then"
        yield '        case "$verb" in'
        for verb in command.verbs:
            yield f"        {verb.name})"
            yield from _bash_case(verb, "            ")
            yield "            return"
            yield "            ;;"
        yield "        esac"
        yield "    fi"
    yield from _bash_case(command, "    ")
    if command.verbs:
        yield f'    COMPREPLY=($(compgen -W "{" ".join(verb.name for verb in command.verbs)}" -- "$word"))'
    yield "}"
    yield f"complete -F {name} {command.name}"


# ---- zsh

_ZSH_KINDS = {"file": "_files", "folder": "_files -/", "user": "_users", "group": "_groups"}


def _zsh_quote(text: str) -> str:
    return text.replace("'", "'\\''").replace("[", "\\[").replace("]", "\\]").replace(":", "\\:")


def _zsh_value(one: Argument) -> str:
    label = _zsh_quote(one.metavar.lower())
    if words := _values(one):
        return f":{label}:({' '.join(word.replace(':', chr(92) + ':') for word in words)})"
    return f":{label}:{_ZSH_KINDS.get(KINDS.get(one.metavar, ''), ' ')}"


def _zsh_arguments(command: Command) -> Iterator[str]:
    for one in _named(command):
        value = _zsh_value(one) if one.metavar else ""
        for flag in one.flags:
            yield f"'*{flag}[{_zsh_quote(one.help)}]{value}'"
    for one in _positional(command):
        yield f"'*{_zsh_value(one)}'"


def _zsh_call(command: Command, indent: str) -> Iterator[str]:
    yield f"{indent}_arguments -s \\"
    lines = [f"{indent}  {line}" for line in _zsh_arguments(command)]
    yield from (f"{line} \\" for line in lines[:-1])
    yield lines[-1]


def _zsh(command: Command) -> Iterator[str]:
    yield f"#compdef {command.name}"
    yield _MADE
    if not command.verbs:
        yield from _zsh_call(command, "")
        return
    yield "local -a verbs"
    yield "verbs=("
    yield from (f"  '{verb.name}:{_zsh_quote(verb.help)}'" for verb in command.verbs)
    yield ")"
    yield "if (( CURRENT == 2 )); then"
    flags = [f"'{flag}:{_zsh_quote(one.help)}'" for one in _named(command) for flag in one.flags]
    yield f"  local -a options=({' '.join(flags)})"
    yield "  _describe -t verbs verb verbs"
    yield "  [[ $words[2] == -* ]] && _describe -o option options"
    yield "  return"
    yield "fi"
    yield "local verb=$words[2]"
    yield "shift words; (( CURRENT-- ))"
    yield 'case "$verb" in'
    for verb in command.verbs:
        yield f"  {verb.name})"
        yield from _zsh_call(verb, "    ")
        yield "    ;;"
    yield "esac"


# ---- fish

_FISH_KINDS = {"file": "-F", "folder": "-a '(__fish_complete_directories)'"}
_FISH_KINDS |= {"user": "-a '(__fish_complete_users)'", "group": "-a '(__fish_complete_groups)'"}


def _fish_quote(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _fish_value(one: Argument) -> str:
    if words := _values(one):
        return f"-a {_fish_quote(' '.join(words))}"
    return _FISH_KINDS.get(KINDS.get(one.metavar, ""), "")


def _fish_lines(command: Command, program: str, condition: str) -> Iterator[str]:
    start = f"complete -c {program}{condition}"
    for one in _named(command):
        flags = [f"-l {flag[2:]}" if flag.startswith("--") else f"-s {flag[1:]}" for flag in one.flags]
        kind = "-r" if KINDS.get(one.metavar) == "file" else "-x"  # with -x no files are offered besides
        value = f" {kind} {_fish_value(one)}".rstrip() if one.metavar else ""
        yield f"{start} {' '.join(flags)}{value} -d {_fish_quote(one.help)}"
    for one in _positional(command):
        if value := _fish_value(one):
            yield f"{start} {value}"


def _fish(command: Command) -> Iterator[str]:
    yield f"# fish completion for {command.name}(1)."
    yield _MADE
    yield f"complete -c {command.name} -f"
    yield from _fish_lines(command, command.name, " -n __fish_use_subcommand" if command.verbs else "")
    for verb in command.verbs:
        yield f"complete -c {command.name} -n __fish_use_subcommand -a {verb.name} -d {_fish_quote(verb.help)}"
        condition = f" -n '__fish_seen_subcommand_from {verb.name}'"
        yield from _fish_lines(verb, command.name, condition)
