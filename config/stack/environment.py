"""Decide which servers the environment replaces, and what the rest of the stack adds to the environment."""

import os
from collections.abc import Mapping
from pathlib import Path

from config.stack.llm import LocalLLM
from config.stack.paths import Home, find_home
from config.stack.postgres import Postgres
from config.stack.service import Service
from config.stack.state import Secrets, generate_secrets, load_secrets, load_state
from config.stack.valkey import Valkey

# The suffix of variables that hold keys of LLM providers.
API_KEY = "_API_KEY"
# In the order in which they start.
SERVERS: tuple[Service, ...] = (Postgres(), Valkey(), LocalLLM())


def settings_from_stack(home: Path | Home | None = None) -> dict[str, str]:
    """Return the variables that the embedded servers add to the environment. Only reads files; starts nothing.

    Leaves out what the environment replaces; a variable that only repeats the stack's own value replaces nothing.
    Before the first start the addresses lead nowhere (port 0) and the keys are temporary, which is enough for commands
    that need no servers. If DATABASE_URL names another database, the environment must have the keys too: generated
    keys would differ on each machine that uses that database.
    """
    home = home if isinstance(home, Home) else find_home(home)
    secrets = load_secrets(home)
    ports = {name: record.port for name, record in load_state(home).services.items()}
    provided = _settings(home, secrets or _unsaved_secrets(), ports)
    elsewhere = {name for name, value in provided.items() if os.environ.get(name, "") not in ("", value)}
    unneeded = {name for server in SERVERS if server.replaced(elsewhere) for name in server.provides}
    if "TENANT_SERVER_URL" in elsewhere:
        unneeded.add("TENANT_SERVER_WAL_ARCHIVE")  # it belongs to the embedded server
    if "DATABASE_URL" in elsewhere:
        unneeded |= {"SECRET_KEY", "SEO_GEN_ENCRYPTION_KEYS"}
    return {name: value for name, value in provided.items() if name not in elsewhere | unneeded}


def embedded_servers(home: Home) -> list[Service]:
    """Return the servers that this stack has to run itself."""
    provided = settings_from_stack(home)
    return [server for server in SERVERS if provided.keys() & set(server.provides)]


def external_environment(home: Home) -> dict[str, str]:
    """Return the environment without variables that only repeat the stack's own settings."""
    provided = settings_from_stack(home)
    return {name: value for name, value in os.environ.items() if provided.get(name) != value}


def without_api_keys(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the environment for a process that calls no provider, and so needs no API keys."""
    return {name: value for name, value in environment.items() if not name.endswith(API_KEY)}


def _settings(home: Home, secrets: Secrets, ports: dict[str, int]) -> dict[str, str]:
    settings = {"SECRET_KEY": secrets.secret_key, "SEO_GEN_ENCRYPTION_KEYS": secrets.encryption_key}
    for server in SERVERS:
        settings.update(server.settings(home, secrets, ports.get(server.name, 0)))
    return settings


_cached_secrets: list[Secrets] = []


def _unsaved_secrets() -> Secrets:
    if not _cached_secrets:
        _cached_secrets.append(generate_secrets())
    return _cached_secrets[0]
