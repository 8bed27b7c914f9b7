"""Store what the stack remembers between commands: ports, processes and secrets. Hold `locked` while changing any."""

import base64
import fcntl
import json
import os
import secrets as random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from config.stack.errors import StackError
from config.stack.paths import Home
from config.stack.process import ProcessRecord

LOCK_WAIT_S = 180.0


@dataclass(frozen=True)
class ServiceRecord:
    # Kept when the service stops, so that addresses stay the same.
    port: int
    # None if it was stopped on purpose.
    process: ProcessRecord | None = None


@dataclass(frozen=True)
class State:
    services: dict[str, ServiceRecord] = field(default_factory=dict)
    # The bootstrap version of the PostgreSQL cluster; 0 if none has finished.
    postgres_bootstrap: int = 0
    # Fingerprint of what the control database was last set up for; "" if never.
    control_fingerprint: str = ""

    def with_service(self, name: str, record: ServiceRecord) -> "State":
        return replace(self, services={**self.services, name: record})


@dataclass(frozen=True)
class Secrets:
    postgres_password: str
    control_owner_password: str
    app_password: str
    # The password of the administrator of the server for tenants; the superuser's is `postgres_password`.
    admin_password: str
    valkey_password: str
    secret_key: str
    encryption_key: str


def load_state(home: Home) -> State:
    document = _read_json(home.state_file)
    services = {name: _service_record(raw) for name, raw in document.get("services", {}).items()}
    return State(services, document.get("postgres_bootstrap", 0), document.get("control_fingerprint", ""))


def save_state(home: Home, state: State) -> None:
    _write_json(home.state_file, asdict(state))


def load_secrets(home: Home) -> Secrets | None:
    """Return the secrets of this home; None if no stack was ever started in it.

    A secret that an earlier release did not have is generated anew on each call, until `ensure_secrets` stores it.
    """
    document = _read_json(home.secrets_file)
    return Secrets(**{**asdict(generate_secrets()), **document}) if document else None


def ensure_secrets(home: Home) -> Secrets:
    """Return the secrets; generate and store missing ones.

    Never replaces a secret: stored credentials are encrypted with one of them.
    """
    stored = _read_json(home.secrets_file)
    complete = {**asdict(generate_secrets()), **stored}
    if complete != stored:
        _write_json(home.secrets_file, complete)
    return Secrets(**complete)


def generate_secrets() -> Secrets:
    return Secrets(
        postgres_password=random.token_urlsafe(24),
        control_owner_password=random.token_urlsafe(24),
        app_password=random.token_urlsafe(24),
        admin_password=random.token_urlsafe(24),
        valkey_password=random.token_urlsafe(24),
        secret_key=random.token_urlsafe(48),
        # As `cryptography.fernet.Fernet.generate_key` makes it, which is slow to load.
        encryption_key=base64.urlsafe_b64encode(os.urandom(32)).decode(),
    )


@contextmanager
def locked(home: Home, name: str = "stack", wait_s: float = LOCK_WAIT_S) -> Iterator[None]:
    """Hold the home's lock with that name; raise `StackError` if another process holds it for longer than `wait_s`.

    The kernel releases the lock however the process dies.
    """
    home.create()
    with home.lock_file(name).open("a") as handle:
        _acquire(handle.fileno(), home, time.monotonic() + wait_s)
        yield


def _acquire(descriptor: int, home: Home, deadline: float) -> None:
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError as error:
            if time.monotonic() > deadline:
                raise StackError(
                    f"Another command has been starting, stopping or preparing the stack in {home.path} for minutes.",
                    hint="Wait for it, or stop it.",
                    code="stack_busy",
                ) from error
            time.sleep(0.05)


def _service_record(raw: dict[str, Any]) -> ServiceRecord:
    process = raw.get("process")
    return ServiceRecord(raw["port"], ProcessRecord(**process) if process else None)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text())
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except PermissionError as error:
        message = f"{path} cannot be read by this user."
        hint = "Run the command as the file's owner, or set another SEO_GEN_HOME."
        raise StackError(message, hint=hint, code="stack_state_foreign") from error
    except ValueError as error:
        raise StackError(
            f"{path} is damaged.", hint="Restore it, or remove it if it is stack.json.", code="stack_state_damaged"
        ) from error
    if not isinstance(document, dict):
        raise StackError(
            f"{path} is damaged.", hint="Restore it, or remove it if it is stack.json.", code="stack_state_damaged"
        )
    return document


def _write_json(path: Path, document: dict[str, Any]) -> None:
    """Replace the file atomically; only its owner can read it."""
    scratch = path.with_suffix(".tmp")
    scratch.unlink(missing_ok=True)
    descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as handle:
        json.dump(document, handle, indent=2)
        handle.flush()
        os.fsync(handle.fileno())
    scratch.replace(path)
