"""The paths of the files of one stack: that of a checkout, or of a ``$SEO_GEN_HOME``."""

import os
from dataclasses import dataclass
from pathlib import Path

from config.stack.errors import StackError

# Only the owner and its group may read logs.
LOG_FOLDER_MODE = 0o750
CHECKOUT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Home:
    """The files of one stack. Two stacks with different homes can run side by side."""

    path: Path

    @property
    def state_file(self) -> Path:
        return self.path / "stack.json"

    @property
    def secrets_file(self) -> Path:
        return self.path / "secrets.json"

    def lock_file(self, name: str) -> Path:
        return self.path / f"{name}.lock"

    def log_file(self, service: str) -> Path:
        return self.path / "log" / f"{service}.log"

    def data(self, service: str) -> Path:
        return self.path / service

    def create(self) -> None:
        try:
            # `static` is where collectstatic puts its files; WhiteNoise wants it to exist.
            for name in ("log", "static"):
                (self.path / name).mkdir(parents=True, exist_ok=True)
            if (self.path / "log").stat().st_uid == os.geteuid():
                (self.path / "log").chmod(LOG_FOLDER_MODE)
        except OSError as error:
            message = f"The stack's folder {self.path} cannot be created or written to: {error.strerror}."
            raise StackError(
                message, hint="Set SEO_GEN_HOME to a folder that you own.", code="home_not_writable"
            ) from error


def find_home(path: Path | str | None = None) -> Home:
    """Return the given home, or else ``$SEO_GEN_HOME``, or else ``var`` in the checkout."""
    chosen = path or os.environ.get("SEO_GEN_HOME") or CHECKOUT / "var"
    return Home(Path(chosen).expanduser().resolve())
