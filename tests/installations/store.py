"""How an installation is stored, and how it comes to life again in a home of its own."""

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
# what the release said of it all.
SERVER, HOME, MESSAGES, FACTS = "server.sql.xz", "home.tar.xz", "messages.json", "facts.json"
CONTROL = CONTROL_DATABASE
QUEUE = "seo-gen"
# A database that was replaced is to be kept for as long as somebody may run the tests.
FOR_EVER_DAYS = 36_500


def program_environment(llm: FakeLLM) -> dict[str, str]:
    """Return what the program needs to ask `llm`, which plays the local LLM and OpenAI."""
    return {
        "LOCAL_LLM_URL": llm.url,
        "LLM_ALLOWED_HOSTS": urlsplit(llm.url).netloc,
        "OPENAI_API_KEY": "sk-test",
        "RESTORE_UNDO_DAYS": str(FOR_EVER_DAYS),
        # The scheduler has something to send soon, whenever it sent the last.
        "RUN_SWEEP_INTERVAL_S": "1",
    }


def revive(stored: Path, home: stack.Home, llm: FakeLLM, made_in: str) -> None:
    """Make the home what it was where the installation was made (the folder `made_in`), with its servers running."""
    with tarfile.open(stored / HOME) as archive:
        extract_all(archive, home.path)
    # An upgrade brings other sources than the ones that the control database was last set up for.
    save_state(home, replace(load_state(home), control_fingerprint=""))
    # PostgreSQL's own bootstrap is not run: its state says that the roles are there, and the script brings them.
    stack.ensure_started(home)
    superuser.know(home)
    _load(home, lzma.decompress((stored / SERVER).read_bytes()))
    with psycopg.connect(superuser.superuser_url(server_url(home), CONTROL)) as control:
        control.execute("UPDATE llm_providers SET api_base_url = %s WHERE id = 'openai'", [llm.url])
        # The folder alone is another one than it was.
        for table in ("backups", "files_read"):
            control.execute(f"UPDATE {table} SET place = replace(place, %s, %s)".encode(), [made_in, str(home.path)])


def server_url(home: stack.Home) -> str:
    return f"postgresql://127.0.0.1:{load_state(home).services['postgres'].port}/postgres"


def _load(home: stack.Home, script: bytes) -> None:
    secrets = load_secrets(home)
    assert secrets is not None
    address = urlsplit(server_url(home))
    # Of all that the script makes, initdb has made the superuser only.
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
