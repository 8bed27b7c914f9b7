"""The files of a stored installation, and how to revive it in another home."""

from __future__ import annotations

import lzma
import os
import subprocess
import tarfile
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import psycopg

from config import stack
from config.stack.postgres import CONTROL_DATABASE, SUPERUSER, binaries_folder
from config.stack.state import load_secrets, load_state, save_state
from tenants.files.tar import extract_all
from tests.runs.fake_llm import FakeLLM
from tests.support import superuser

# The server's roles and databases, a script for psql; the home's files, its keys among them; what was in the broker;
# what the release reported about the installation.
SERVER, HOME, MESSAGES, FACTS = "server.sql.xz", "home.tar.xz", "messages.json", "facts.json"
CONTROL = CONTROL_DATABASE
QUEUE = "seo-gen"
# Keep a replaced database for as long as anyone may run the tests.
FOR_EVER_DAYS = 36_500


def program_environment(llm: FakeLLM) -> dict[str, str]:
    """Return the variables with which `llm` is the local LLM and may be OpenAI's, and replaced databases are kept."""
    return {
        "LOCAL_LLM_URL": llm.url,
        "LLM_ALLOWED_HOSTS": urlsplit(llm.url).netloc,
        "OPENAI_API_KEY": "sk-test",
        "RESTORE_UNDO_DAYS": str(FOR_EVER_DAYS),
        # The scheduler soon has something to send, whenever it last sent something.
        "RUN_SWEEP_INTERVAL_S": "1",
    }


def revive(stored: Path, home: stack.Home, llm: FakeLLM, made_in: str) -> None:
    """Restore the stored installation, made in the folder `made_in`, into the home; start its servers.

    OpenAI's calls go to `llm`.
    """
    with tarfile.open(stored / HOME) as archive:
        extract_all(archive, home.path)
    # After an upgrade, the sources are no longer those that the control database was last set up for.
    save_state(home, replace(load_state(home), control_fingerprint=""))
    # The stack's bootstrap of PostgreSQL is skipped: the state says that the roles exist, and the script creates them.
    stack.ensure_started(home)
    superuser.know(home)
    _load(home, lzma.decompress((stored / SERVER).read_bytes()))
    with psycopg.connect(superuser.superuser_url(server_url(home), CONTROL)) as control:
        control.execute("UPDATE llm_providers SET api_base_url = %s WHERE id = 'openai'", [llm.url])
        # Only the folder has changed.
        for table in ("backups", "files_read"):
            control.execute(f"UPDATE {table} SET place = replace(place, %s, %s)".encode(), [made_in, str(home.path)])


def server_url(home: stack.Home) -> str:
    return f"postgresql://127.0.0.1:{load_state(home).services['postgres'].port}/postgres"


def _load(home: stack.Home, script: bytes) -> None:
    secrets = load_secrets(home)
    assert secrets is not None
    address = urlsplit(server_url(home))
    # Of everything that the script creates, initdb has already created only the superuser.
    loaded = subprocess.run(
        [
            *(binaries_folder() / "psql", "--no-psqlrc", "--quiet", "--output=/dev/null"),
            *(f"--host={address.hostname}", f"--port={address.port}", f"--username={SUPERUSER}", "--dbname=postgres"),
        ],
        input=script,
        env={**os.environ, "PGPASSWORD": secrets.postgres_password, "PGAPPNAME": superuser.APPLICATION},
        capture_output=True,
        check=True,
    )
    complaints = [line for line in loaded.stderr.decode().splitlines() if "ERROR" in line]
    assert len(complaints) == 1 and 'role "postgres" already exists' in complaints[0], complaints
