"""The Celery application: ``celery --quiet -A config.celery worker``."""

import logging
import logging.config
import os
import sys
from pathlib import Path
from typing import Any

from celery import Celery, signals
from kombu.exceptions import OperationalError

from config import logs
from config.queue import broker

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

broker.register()
app = Celery("seo_gen", amqp="runs.messages.sending:GuardedAMQP")
# `celery.current_app` is kept per thread: without this, threads that did not import this module (gunicorn's, a pool's)
# would get an application without settings, which sends to guest@localhost:5672. Whoever sends imports this module
# (`runs.messages.sending`), so that commands which send nothing need not load Celery.
app.set_default()
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()

BROKER_TIMEOUT_S = 5


@signals.celeryd_init.connect
@signals.beat_init.connect
def require_broker(**_signal: Any) -> None:
    """End a worker or beat that has no broker with one sentence, instead of a traceback or endless retries."""
    with app.connection_for_read() as connection:
        try:
            connection.ensure_connection(max_retries=1, interval_start=0, timeout=BROKER_TIMEOUT_S)
        except (OperationalError, OSError) as error:
            # `as_uri` masks the password.
            print(f"The broker {connection.as_uri()} does not answer: {_root(error)}.", file=sys.stderr)
            print("Start it (seo-gen stack start), or set CELERY_BROKER_URL.", file=sys.stderr)
            raise SystemExit(1) from error


@signals.celeryd_init.connect
@signals.setup_logging.connect
def setup_logging(**signal: Any) -> None:
    """Have workers and beat log as everything else does; Celery's own set-up would drop what `extra` holds.

    At once, so that warnings of a worker that begins are lines of the log too.
    """
    # Only here: commands and the web server have no use for it.
    from celery.apps import worker as worker_program

    level = signal.get("loglevel") or signal.get("options", {}).get("loglevel") or logging.WARNING
    name = level.upper() if isinstance(level, str) else logging.getLevelName(level)
    logging.config.dictConfig(logs.configuration_from_environment(name))
    logging.captureWarnings(True)
    # It would write past every log.
    worker_program.safe_say = _say  # type: ignore[attr-defined]


def _say(message: str, *_stream: Any) -> None:
    """Write what Celery says on a signal as a line of the log; in one write, since a signal may fall into logging."""
    said = logging.LogRecord(__name__, logging.INFO, __file__, 0, "%s", (message,), None)
    handler = logging.getLogger().handlers[0]
    os.write(2, f"{handler.format(said)}\n".encode())


@signals.worker_ready.connect
@signals.beat_init.connect
def tell_stack(**_signal: Any) -> None:
    """Create the file that `stack start` waits for (``config.stack.workers.READY_FILE``)."""
    ready_file = os.environ.get("SEO_GEN_READY_FILE")
    if ready_file:
        Path(ready_file).touch()


def _root(error: BaseException) -> BaseException:
    while error.__cause__ is not None:
        error = error.__cause__
    return error
