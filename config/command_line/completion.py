"""Generate shell completion scripts for ``seo-gen``: its commands, options and their choices."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby

GENERAL = ("--help", "--version")


@dataclass(frozen=True)
class Option:
    # "-h", "--help"; empty for a positional argument.
    names: tuple[str, ...]
    help: str
    takes_value: bool
    # The allowed values; empty if any value is allowed.
    choices: tuple[str, ...]


@dataclass(frozen=True)
class Command:
    # As people type it: ("tenant", "create"), ("demo",).
    words: tuple[str, ...]
    summary: str
    options: tuple[Option, ...]

    @property
    def noun(self) -> str:
        return self.words[0]

    @property
    def named(self) -> list[Option]:
        return [option for option in self.options if option.names]

    @property
    def arguments(self) -> list[str]:
        """Return the choices of positional arguments."""
        return [choice for option in self.options if not option.names for choice in option.choices]


def options_of(parser: argparse.ArgumentParser) -> tuple[Option, ...]:
    """Return the options and arguments that the usage text shows."""
    shown = (action for action in parser._actions if action.help != argparse.SUPPRESS)
    return tuple(
        Option(tuple(one.option_strings), one.help or "", one.nargs != 0, tuple(map(str, one.choices or ())))
        for one in shown
    )


def bash(commands: Sequence[Command]) -> str:
    cases = [f'1:*) words="{_words([*_nouns(commands), *GENERAL])}" ;;']
    for command in commands:
        if len(command.words) == 1:
            cases.append(f'*:"{command.noun} "*) {_bash_options(command)} ;;')
    for noun, verbs in _by_noun(commands):
        cases.append(f'2:"{noun} "*) words="{_words([*(one.words[1] for one in verbs), "--help"])}" ;;')
        cases += [f'*:"{" ".join(one.words)}") {_bash_options(one)} ;;' for one in verbs]
    return BASH.replace("CASES", "\n        ".join(cases))


def _bash_options(command: Command) -> str:
    """Return the statement that sets `words`. A value without choices leaves `words` empty, so files are completed."""
    values = [
        f'{"|".join(option.names)}) words="{_words(option.choices)}" ;; '
        for option in command.named
        if option.takes_value
    ]
    names = _words([*command.arguments, *(name for option in command.named for name in option.names)])
    return f'case "$before" in {"".join(values)}*) words="{names}" ;; esac'


def zsh(commands: Sequence[Command]) -> str:
    nouns = [_zsh_described(noun, _summary(commands, noun)) for noun in _nouns(commands)]
    general = [_zsh_described(name, "") for name in GENERAL]
    cases = [f"1:*) candidates=({' '.join([*nouns, *general])}); _describe command candidates ;;"]
    for command in commands:
        if len(command.words) == 1:
            cases.append(f'*:"{command.noun} "*) shift words; (( CURRENT -= 1 )); {_zsh_options(command)} ;;')
    for noun, verbs in _by_noun(commands):
        described = " ".join(_zsh_described(one.words[1], one.summary) for one in verbs)
        cases.append(f'2:"{noun} "*) candidates=({described}); _describe command candidates ;;')
        cases += [
            f'*:"{" ".join(one.words)}") shift 2 words; (( CURRENT -= 2 )); {_zsh_options(one)} ;;' for one in verbs
        ]
    return ZSH.replace("CASES", "\n        ".join(cases))


def _zsh_described(name: str, summary: str) -> str:
    described = f"{name}:{summary}" if summary else name
    return _quoted(described.replace("\\", ""))


def _zsh_options(command: Command) -> str:
    specifications = [
        _quoted(f"{_zsh_name(name, option)}[{_zsh_text(option.help)}]{_zsh_value(option)}")
        for option in command.named
        for name in option.names
    ]
    arguments = [_quoted(f":argument:({_words(command.arguments)})")] if command.arguments else []
    return " ".join(["_arguments", *specifications, *arguments])


def _zsh_name(name: str, option: Option) -> str:
    """Return the name, with "=" if a value may follow it in the same word."""
    return f"{name}=" if option.takes_value and name.startswith("--") else name


def _zsh_value(option: Option) -> str:
    if not option.takes_value:
        return ""
    return f":value:({_words(option.choices)})" if option.choices else ":value:_files"


def _zsh_text(text: str) -> str:
    return re.sub(r"([\[\]:\\])", r"\\\1", _one_line(text))


def fish(commands: Sequence[Command]) -> str:
    lines = [_fish("__seo_gen_is", f"-xa {noun}", _summary(commands, noun)) for noun in _nouns(commands)]
    lines += [_fish("__seo_gen_is", f"-l {name.removeprefix('--')}", "") for name in GENERAL]
    for command in commands:
        inside = " ".join(["__seo_gen_in", *command.words])
        if len(command.words) > 1:
            lines.append(_fish(f"__seo_gen_is {command.noun}", f"-xa {command.words[1]}", command.summary))
        lines += [_fish(inside, f"-a {argument}", "") for argument in command.arguments]
        lines += [_fish(inside, _fish_option(option), option.help) for option in command.named]
    return FISH.replace("LINES", "\n".join(lines))


def _fish(condition: str, what: str, description: str) -> str:
    described = f" -d {_fish_quoted(_one_line(description))}" if description else ""
    return f"complete -c seo-gen -n '{condition}' {what}{described}"


def _fish_option(option: Option) -> str:
    names = [f"-l {name[2:]}" if name.startswith("--") else f"-s {name[1:]}" for name in option.names]
    value = [] if not option.takes_value else [f"-xa '{_words(option.choices)}'"] if option.choices else ["-rF"]
    return " ".join([*names, *value])


def _fish_quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _quoted(text: str) -> str:
    return "'" + _one_line(text).replace("'", "'\\''") + "'"


def _one_line(text: str) -> str:
    return " ".join(text.split()).replace("%%", "%")


def _words(words: Sequence[str]) -> str:
    return " ".join(words)


def _nouns(commands: Sequence[Command]) -> list[str]:
    return sorted({command.noun for command in commands})


def _summary(commands: Sequence[Command], noun: str) -> str:
    """Return a noun's verbs, or the summary of a command without a verb."""
    of_noun = [command for command in commands if command.noun == noun]
    verbs = [command.words[1] for command in of_noun if len(command.words) > 1]
    return ", ".join(verbs) or of_noun[0].summary


def _by_noun(commands: Sequence[Command]) -> list[tuple[str, list[Command]]]:
    with_verbs = sorted((command for command in commands if len(command.words) > 1), key=lambda one: one.words)
    return [(noun, list(verbs)) for noun, verbs in groupby(with_verbs, key=lambda one: one.noun)]


BASH = """\
# Completes seo-gen in bash: source <(seo-gen completion bash)
_seo_gen() {
    local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]} words=
    # bash splits "--option=value" into three words.
    [[ $before == "=" ]] && before=${COMP_WORDS[COMP_CWORD-2]}
    [[ $word == "=" ]] && word=
    case "$COMP_CWORD:${COMP_WORDS[1]} ${COMP_WORDS[2]}" in
        CASES
    esac
    COMPREPLY=($(compgen -W "$words" -- "$word"))
}
complete -o bashdefault -o default -F _seo_gen seo-gen
"""
ZSH = """\
#compdef seo-gen
# Completes seo-gen in zsh: source <(seo-gen completion zsh), after compinit
_seo_gen() {
    local -a candidates
    case "$((CURRENT - 1)):${words[2]} ${words[3]}" in
        CASES
    esac
}
if [[ ${funcstack[1]} == _seo_gen ]]; then
    _seo_gen "$@"
else
    compdef _seo_gen seo-gen
fi
"""
FISH = """\
# Completes seo-gen in fish: seo-gen completion fish | source
function __seo_gen_is
    set -l typed (commandline -opc)
    set -e typed[1]
    test "$typed" = "$argv"
end
function __seo_gen_in
    set -l typed (commandline -opc)
    set -e typed[1]
    set -l depth (count $argv)
    test (count $typed) -ge $depth; and test "$typed[1..$depth]" = "$argv"
end
complete -c seo-gen -f
LINES
"""
SHELLS: dict[str, Callable[[Sequence[Command]], str]] = {"bash": bash, "fish": fish, "zsh": zsh}
