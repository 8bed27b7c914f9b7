"""Shared by the commands about prompts: arguments, and reading templates, declarations and inputs."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

from django.core.management.base import CommandParser
from django.utils.translation import gettext as _

from config.base.command import STANDARD_OUTPUT, OperatorCommand
from prompts.errors import InvalidPrompt, UnreadablePromptFile
from prompts.rendering import MAX_TEMPLATE_CHARS
from prompts.types import PromptVariable

# UTF-8 needs at most four bytes a character, and a byte order mark three.
MAX_FILE_BYTES = 4 * MAX_TEMPLATE_CHARS + 3
STANDARD_INPUT = STANDARD_OUTPUT
# The largest number that the column of versions can hold.
MAX_VERSION = 2**31 - 1


class PromptCommand(OperatorCommand):
    """A command with an option `--version` of its own, in place of Django's."""

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> CommandParser:
        return super().create_parser(prog_name, subcommand, conflict_handler="resolve", **kwargs)


def add_tenant_and_step(parser: CommandParser) -> None:
    parser.add_argument("--tenant-id", required=True, help="The tenant's id, as `tenant list` shows it.")
    parser.add_argument("--step", required=True, help="The step that the prompt is for.")


def add_version(parser: Any, text: str) -> None:
    parser.add_argument("--version", dest="version_number", type=version_number, metavar="N", help=text)


def version_number(text: str) -> int:
    """Parse a version written as 3 or v3. Raises `ValueError` unless it is a number from 1 to `MAX_VERSION`."""
    number = int(text.removeprefix("v"))
    if not 0 < number <= MAX_VERSION:
        raise ValueError
    return number


def read_template(path: str) -> str:
    """Return the text of a file, or of standard input for "-". Raises `UnreadablePromptFile`."""
    return _read(path)


def read_variables(path: str | None) -> list[dict[str, object]] | None:
    """Return the parsed JSON of a file of declarations, unchecked; None if `path` is None.

    "-" is standard input. Raises `UnreadablePromptFile`.
    """
    if path is None:
        return None
    try:
        document: list[dict[str, object]] = json.loads(_read(path))
    except json.JSONDecodeError as error:
        raise UnreadablePromptFile(
            _("%(path)s is not valid JSON (line %(line)d).") % {"path": _shown(path), "line": error.lineno}
        ) from error
    except (ValueError, RecursionError) as error:
        raise UnreadablePromptFile(
            _("%(path)s cannot be read as JSON: a number is too long, or its content is nested too deeply.")
            % {"path": _shown(path)}
        ) from error
    return document


def parse_inputs(pairs: Iterable[str], variables: Iterable[PromptVariable]) -> dict[str, object]:
    """Return the values of `name=value` pairs.

    For a variable that is declared as a string, or not declared, the value is the text as it is; otherwise it is parsed
    as JSON, without a check of its type. Raises `InvalidPrompt` if that fails, or if a pair has no "=".
    """
    types = {variable.name: variable.type for variable in variables}
    return dict(_parse_input(pair, types) for pair in pairs)


def money(amount: Decimal | float | None) -> str:
    """Format US dollars for people: "0.012300 USD", or "unknown" for None."""
    return _("unknown") if amount is None else f"{amount:.6f} USD"


def _parse_input(pair: str, types: Mapping[str, str]) -> tuple[str, object]:
    name, separator, text = pair.partition("=")
    if not separator:
        raise InvalidPrompt(
            _("--input %(input)r is not of the form name=value.") % {"input": pair[:60]}, code="prompt_input_invalid"
        )
    if types.get(name, "string") == "string":
        return name, text
    try:
        return name, json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidPrompt(
            _("The value of --input %(name)s must be JSON of type %(type)s.") % {"name": name, "type": types[name]},
            code="prompt_input_invalid",
        ) from error


def _read(path: str) -> str:
    try:
        # One byte more than allowed, so that a larger file is refused without reading all of it.
        if path == STANDARD_INPUT:
            content = sys.stdin.buffer.read(MAX_FILE_BYTES + 1)
        else:
            with Path(path).open("rb") as file:
                content = file.read(MAX_FILE_BYTES + 1)
        if len(content) > MAX_FILE_BYTES:
            raise UnreadablePromptFile(
                _("%(path)s is larger than %(limit)d KiB.") % {"path": _shown(path), "limit": MAX_FILE_BYTES // 1024}
            )
        return content.decode("utf-8-sig")
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else _("it is not UTF-8 text")
        raise UnreadablePromptFile(
            _("%(path)s cannot be read: %(reason)s.") % {"path": _shown(path), "reason": reason}
        ) from error


def _shown(path: str) -> str:
    return _("Standard input") if path == STANDARD_INPUT else path
