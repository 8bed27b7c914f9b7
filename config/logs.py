"""Logging of every process: one line per event, with its context, and in plain text a traceback after an error.

`configuration` returns the logging settings for commands and Django (`config.settings`), workers and beat
(`config.celery`), and the web server (`config.gunicorn`). This module does not import Django, so that they can use it
before Django is loaded.
"""

from __future__ import annotations

import json
import logging
import os
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from config.base.errors import SeoGenError

FORMATS = ("plain", "json")
LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
# S3 failures are retried, and reported once if that does not help.
QUIET = ("urllib3", "smart_open")
# Statuses from here on are server errors.
SERVER_ERROR = 500
# Attributes of every record; any others came with `extra`.
USUAL = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
PLAIN_WORD = re.compile(r"[^\s\"'=\\\x00-\x1f\x7f]+")
# Up to the last @: a password may contain others.
CREDENTIALS = re.compile(r"(?<=://)[^\s/?#]*@")
SECRET_VARIABLE = re.compile(r"(KEY|KEYS|PASSWORD|SECRET|TOKEN)$")
SECRET_MIN_LENGTH = 8


class InvalidLogSetting(SeoGenError):
    """LOG_FORMAT or LOG_LEVEL has an unknown value."""

    code = "log_setting_invalid"


def configuration(*, log_format: str, level: str) -> dict[str, Any]:
    """Return the settings for `logging.config.dictConfig`. Raises `InvalidLogSetting`."""
    if log_format not in FORMATS:
        raise InvalidLogSetting(f"LOG_FORMAT is invalid: {log_format!r}.", hint=f"Use one of {', '.join(FORMATS)}.")
    if level.upper() not in LEVELS:
        raise InvalidLogSetting(f"LOG_LEVEL is invalid: {level!r}.", hint=f"Use one of {', '.join(LEVELS)}.")
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"plain": {"()": "config.logs.PlainFormatter"}, "json": {"()": "config.logs.JSONFormatter"}},
        "filters": {"context": {"()": "config.logs.Context"}},
        "handlers": {
            "stderr": {"class": "logging.StreamHandler", "formatter": log_format, "filters": ["context"]},
        },
        "root": {"handlers": ["stderr"], "level": level.upper()},
        # Django's own handlers would log everything twice.
        "loggers": {"django": {"handlers": [], "level": "NOTSET"}, **{name: {"level": "ERROR"} for name in QUIET}},
    }


def configuration_from_environment(default_level: str) -> dict[str, Any]:
    """Return the settings for LOG_FORMAT and LOG_LEVEL; store the level in the environment for the Django settings."""
    level = os.environ.get("LOG_LEVEL") or default_level
    os.environ["LOG_LEVEL"] = level
    return configuration(log_format=os.environ.get("LOG_FORMAT") or "plain", level=level)


class Context(logging.Filter):
    """Adds the context to each record: tenant, actor, operation and HTTP request.

    Removes the traceback from records about requests that were rejected.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        known = {**_acting(), **_requested(record)}
        for name, value in known.items():
            if value is not None and getattr(record, name, None) is None:
                setattr(record, name, value)
        if _status(record) < SERVER_ERROR:
            # A rejected request is not a bug, so its traceback is not needed.
            record.exc_info = record.exc_text = None
        return True


def _acting() -> dict[str, object]:
    from audit.log.actor import SYSTEM, current_actor
    from tenants.routing.active import current_tenant_or_none

    tenant, actor = current_tenant_or_none(), current_actor()
    return {
        "tenant": tenant.id if tenant else None,
        "actor": actor.user_id if actor != SYSTEM else None,
        "operation": actor.operation_id,
    }


def _requested(record: logging.LogRecord) -> dict[str, object]:
    """Return the fields of the request that one of Django's own log records is about."""
    request = getattr(record, "request", None)
    path = getattr(request, "path", None)
    if not isinstance(path, str):
        return {}
    return request_fields(request) | {"status": getattr(record, "status_code", None)}


def request_fields(request: Any) -> dict[str, object]:
    """Return method, path without query, the tenant named in the path, and the user's id if the user was loaded."""
    from tenants.routing.site_urls import split_path

    found, user = split_path(request.path), getattr(request, "_cached_user", None)
    return {
        "method": request.method,
        "path": request.path,
        "tenant": found[0] if found else None,
        "user_id": getattr(user, "pk", None),
    }


def _status(record: logging.LogRecord) -> int:
    status = getattr(record, "status_code", None)
    return status if isinstance(status, int) else SERVER_ERROR


class _Formatter(logging.Formatter):
    def __init__(self) -> None:
        super().__init__()
        self._secrets = _secrets(os.environ)

    def masked(self, text: str) -> str:
        """Return the text without credentials in URLs, and without the values of secret variables."""
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return CREDENTIALS.sub("***@", text)

    def traceback(self, record: logging.LogRecord) -> str:
        if not record.exc_info:
            return ""
        return self.masked(self.formatException(record.exc_info))


class PlainFormatter(_Formatter):
    """For people: time, level, logger, message, then key=value."""

    def format(self, record: logging.LogRecord) -> str:
        pairs = " ".join(f"{name}={_word(self.masked(str(value)))}" for name, value in _extra(record))
        message = _one_line(self.masked(record.getMessage()))
        line = f"{_time(record)} {record.levelname} {record.name} {message} {pairs}".rstrip()
        if record.exc_info and record.levelno < logging.ERROR:
            # A handled exception takes one line; its traceback does not matter.
            return f"{line} exception={_word(self.masked(_exception(record)))}"
        traceback = self.traceback(record)
        return f"{line}\n{traceback}" if traceback else line


class JSONFormatter(_Formatter):
    """For log collectors: one JSON object per line, including the traceback."""

    def format(self, record: logging.LogRecord) -> str:
        document: dict[str, object] = {
            "time": _time(record),
            "level": record.levelname,
            "logger": record.name,
            "message": self.masked(record.getMessage()),
            "process": record.process,
        }
        for name, value in _extra(record):
            document.setdefault(name, value if isinstance(value, bool | int | float) else self.masked(str(value)))
        traceback = self.traceback(record)
        if traceback:
            document["traceback"] = traceback
        return json.dumps(document, ensure_ascii=False)


def _extra(record: logging.LogRecord) -> Iterator[tuple[str, object]]:
    """Yield the attributes from `extra`, plain values only, since other objects may contain anything."""
    for name, value in vars(record).items():
        if name not in USUAL and isinstance(value, str | bool | int | float | Decimal | UUID | datetime | date):
            yield name, value


def _time(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")


def _exception(record: logging.LogRecord) -> str:
    error = record.exc_info[1] if record.exc_info else None
    return f"{type(error).__name__}: {error}"


def _word(text: str) -> str:
    """Return the text unchanged if it is one word; otherwise quote it, so that no part of it looks like a pair."""
    return text if PLAIN_WORD.fullmatch(text) else json.dumps(text, ensure_ascii=False)


def _one_line(text: str) -> str:
    """Return the text with unprintable characters escaped, so that no part of it looks like another line."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def _secrets(environment: Mapping[str, str]) -> tuple[str, ...]:
    """Return the values of variables whose names look like those of secrets, longest first.

    The items of values with commas are returned too; values and items that are too short are left out.
    """
    named = (value for name, value in environment.items() if SECRET_VARIABLE.search(name))
    parts = {part for value in named for part in (value, *value.split(",")) if len(part) >= SECRET_MIN_LENGTH}
    return tuple(sorted(parts, key=len, reverse=True))
