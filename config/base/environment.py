"""Read the environment for the settings. Values are taken literally and never quoted in errors."""

import re
from collections.abc import Collection
from typing import Any
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

import environ
from django.core.exceptions import ImproperlyConfigured

TRUE = frozenset({"1", "true", "on", "ok", "y", "yes"})
POSTGRESQL = ("postgresql://", "postgres://", "psql://", "pgsql://")
# Celery separates several URLs in one setting with ";", Django's cache with either.
BETWEEN_ADDRESSES = re.compile(r"[;,](?=[a-z+]+://)")
FALSE = frozenset({"0", "false", "off", "n", "no"})
DAY_S = 24 * 60 * 60
CENTURY_DAYS = 36_500
# The most that a number may be unless a setting says otherwise: in seconds, about 31 years.
MOST = 1_000_000_000


class LiteralEnv(environ.Env):  # type: ignore[misc]
    """django-environ, except that every value is taken literally.

    django-environ itself would replace "$x", even if it is a password, with the value of the variable x. Errors name
    the variable but never its value, which may be a secret.
    """

    def get_value(
        self, var: str, cast: Any = None, default: Any = environ.Env.NOTSET, parse_default: bool = False
    ) -> Any:
        value = self.ENVIRON.get(var)
        # An empty number or boolean counts as unset: Compose files leave unset variables empty.
        if value is None or (value == "" and cast in (bool, int, float)):
            if default is self.NOTSET:
                raise ImproperlyConfigured(f"Set the {var} environment variable")
            return default
        try:
            return self.parse_value(value, cast)
        except ValueError:
            kind = {bool: "true or false", int: "a whole number", float: "a number"}.get(cast, "valid")
            # The cause would show the value.
            raise ImproperlyConfigured(f"The environment variable {var} is not {kind}") from None

    def whole_number(self, var: str, *, default: int, least: int = 0, most: int = MOST) -> int:
        """Return a whole number, or the default if the variable is unset or empty.

        Raises `ImproperlyConfigured` for a value that is not a whole number from `least` to `most`.
        """
        number = self.get_value(var, cast=int, default=default)
        _require_within(var, number, least, most)
        return int(number)

    def number(self, var: str, *, default: float, least: float = 0, most: float = MOST) -> float:
        """Return a number, or the default if the variable is unset or empty.

        Raises `ImproperlyConfigured` for a value that is not a number from `least` to `most`.
        """
        number = self.get_value(var, cast=float, default=default)
        _require_within(var, number, least, most)
        return float(number)

    def choice(self, var: str, choices: Collection[str], *, default: str) -> str:
        """Return one of the choices; raise `ImproperlyConfigured` for any other value."""
        value = str(self.get_value(var, default=default))
        if value not in choices:
            *others, last = choices
            raise ImproperlyConfigured(f"{var} must be {', '.join(others)} or {last}")
        return value

    def choices(self, var: str, choices: Collection[str]) -> list[str]:
        """Return a list, empty by default; raise `ImproperlyConfigured` if an item is not one of the choices."""
        items: list[str] = self.get_value(var, cast=list, default=[])
        if not set(items) <= set(choices):
            raise ImproperlyConfigured(f"{var} must be a list of some of {', '.join(choices)}, separated by commas")
        return items

    def time_zone(self, var: str, *, default: str) -> str:
        """Return the name of a time zone; raise `ImproperlyConfigured` if this machine does not know it."""
        name = str(self.get_value(var, default=default))
        try:
            ZoneInfo(name)
        except (KeyError, ValueError, OSError):
            raise ImproperlyConfigured(f"{var} must be a time zone of this machine, such as Asia/Tokyo") from None
        return name

    @classmethod
    def parse_value(cls, value: str, cast: Any) -> Any:
        """Cast a value; list items are stripped, and empty ones are left out."""
        if cast is bool:
            return _boolean(value)
        if cast is float:
            return float(value)
        if cast is list:
            return [item for part in value.split(",") if (item := part.strip())]
        return super().parse_value(value, cast)

    def address(self, var: str, default: Any = environ.Env.NOTSET) -> str:
        """Return a URL, or several separated by ";" or ",", after checking that libraries can parse them.

        Raises `ImproperlyConfigured`. Libraries' errors would quote part of a password that contains "/", "?" or "#".
        """
        value = str(self.get_value(var, default=default))
        try:
            for url in BETWEEN_ADDRESSES.split(value) if value else []:
                parts = urlsplit(url)
                if not parts.scheme or "://" not in url or "@" in parts.path + parts.query + parts.fragment:
                    raise ValueError
                _ = parts.port
        except ValueError:
            hint = "is not a valid URL (special characters in the password must be percent-encoded)"
            raise ImproperlyConfigured(f"The environment variable {var} {hint}") from None
        return value

    def db_url(self, var: str, default: Any = environ.Env.NOTSET, engine: str | None = None) -> dict[str, Any]:
        url = self.get_value(var, default=default)
        try:
            if not url.startswith(POSTGRESQL):
                raise ValueError
            return dict(self.db_url_config(url, engine=engine))
        except (AttributeError, ValueError):
            # For example a "/", "?" or "#" in a password, which the cause would show.
            hint = "is not a valid database URL (special characters in the password must be percent-encoded)"
            raise ImproperlyConfigured(f"The environment variable {var} {hint}") from None


def _require_within(var: str, number: float, least: float, most: float) -> None:
    # "nan" is within no limits.
    if not least <= number <= most:
        raise ImproperlyConfigured(f"{var} must be between {least} and {most}")


def _boolean(value: str) -> bool:
    word = value.strip().lower()
    if word in TRUE | FALSE:
        return word in TRUE
    return int(word) != 0
