"""The product's own processes: Celery's worker and beat, and the web server."""

import signal
import sys
from collections.abc import Sequence
from dataclasses import replace

from config.stack.environment import external_environment, without_api_keys
from config.stack.paths import CHECKOUT, Home
from config.stack.process import Launch
from config.stack.service import Service
from config.stack.state import Secrets

WEB_THREADS = 8
# How long a worker waits for its calls when it is stopped, unless `stack stop --wait` says otherwise.
STOP_WAIT_S = 30.0
LONGEST_STOP_WAIT_S = 86_400.0


# Celery's processes have no port to ask; they create the file named here once they work (``config.celery``).
READY_FILE = "SEO_GEN_READY_FILE"


class _PythonService(Service):
    """A process that runs this checkout's code in the environment of the command that starts it.

    Variables that only repeat the stack's own settings are left out, and so are API keys if the process needs none.
    """

    # Whether it calls providers, or at least checks whether there are keys for them.
    needs_api_keys = True

    def arguments(self, port: int) -> list[str]:
        raise NotImplementedError

    def launch(self, home: Home, secrets: Secrets, port: int) -> Launch:
        ready_file = home.data(self.name).with_suffix(".ready")
        ready_file.unlink(missing_ok=True)
        own = {"SEO_GEN_HOME": str(home.path), READY_FILE: str(ready_file), "PYTHONUNBUFFERED": "1"}
        environment = external_environment(home)
        if not self.needs_api_keys:
            environment = without_api_keys(environment)
        return Launch([sys.executable, "-m", *self.arguments(port)], CHECKOUT, {**environment, **own})


class _CeleryService(_PythonService):
    has_port = False

    def ready(self, home: Home, secrets: Secrets, port: int) -> bool:
        return home.data(self.name).with_suffix(".ready").exists()


class Worker(_CeleryService):
    name = "worker"
    title = "Celery worker"
    # SIGTERM: it waits for its calls. SIGQUIT: it returns their steps immediately (`config.queue.stopping`).
    stop_steps = ((signal.SIGTERM, STOP_WAIT_S), (signal.SIGQUIT, 15.0), (signal.SIGKILL, 5.0))

    def steps_to_stop(self, wait_s: float | None) -> Sequence[tuple[signal.Signals, float]]:
        first, *rest = self.stop_steps
        return (first, *rest) if wait_s is None else ((first[0], wait_s), *rest)

    def launch(self, home: Home, secrets: Secrets, port: int) -> Launch:
        launch = super().launch(home, secrets, port)
        # `stack stop --wait` decides how long it waits, and then sends SIGQUIT.
        return replace(launch, env={**launch.env, "WORKER_STOP_WAIT_S": str(LONGEST_STOP_WAIT_S)})

    def arguments(self, port: int) -> list[str]:
        # Quiet: without the banner, which does not have the log's format.
        return ["celery", "--quiet", "-A", "config.celery", "worker", "--loglevel", "INFO", "--hostname", "worker@%h"]


class Beat(_CeleryService):
    name = "beat"
    title = "Celery beat"
    needs_api_keys = False

    def arguments(self, port: int) -> list[str]:
        return ["celery", "--quiet", "-A", "config.celery", "beat", "--loglevel", "INFO", "--pidfile="]


class Web(_PythonService):
    name = "web"
    title = "Admin"
    stop_steps = ((signal.SIGTERM, 5.0), (signal.SIGQUIT, 2.0), (signal.SIGKILL, 5.0))

    def arguments(self, port: int) -> list[str]:
        bind = ["--bind", f"127.0.0.1:{port}", "--threads", str(WEB_THREADS)]
        # Preloaded, so that a broken configuration ends the server immediately instead of restarting its workers
        # forever.
        ours = ["--config", "python:config.gunicorn", "--preload", "--no-control-socket"]
        return ["gunicorn", *ours, *bind, "config.wsgi:application"]

    def ready(self, home: Home, secrets: Secrets, port: int) -> bool:
        from http.client import HTTPConnection, HTTPException  # slow to load; commands start no web server

        # Any answer will do. Redirects are not followed: they may lead to https, which only a proxy in front of the
        # server speaks.
        connection = HTTPConnection("127.0.0.1", port, timeout=5)
        try:
            connection.request("GET", "/")
            connection.getresponse()
        except (OSError, HTTPException):
            return False
        finally:
            connection.close()
        return True
