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
app = Celery("seo_gen", amqp="runs.messages.size_guard:GuardedAMQP")
# `celery.current_app` is per thread: without this, threads that did not import this module (gunicorn's, a pool's) would
# get an unconfigured application, which sends to guest@localhost:5672. Only code that sends messages imports this
# module (`runs.messages.sending`), so that other commands need not load Celery.
app.set_default()
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()

BROKER_TIMEOUT_S = 5


@signals.celeryd_init.connect
@signals.beat_init.connect
def require_broker(**_signal: Any) -> None:
    """Exit with a message if the broker cannot be used, instead of a traceback or endless retries."""
    with app.connection_for_read() as connection:
        try:
            connection.ensure_connection(max_retries=1, interval_start=0, timeout=BROKER_TIMEOUT_S)
        except (OperationalError, OSError) as error:
            # `as_uri` masks the password.
            print(f"The broker {connection.as_uri()} cannot be used: {str(_root(error)).rstrip('.')}.", file=sys.stderr)
            print("Start it (seo-gen stack start), or set CELERY_BROKER_URL.", file=sys.stderr)
            raise SystemExit(1) from error


@signals.celeryd_init.connect
@signals.setup_logging.connect
def setup_logging(**signal: Any) -> None:
    """Make workers and beat log like every other process; Celery's own set-up would drop `extra`.

    Runs early, so that warnings of a starting worker are logged in the same format.
    """
    # Imported here: commands and the web server do not need it.
    from celery.apps import worker as worker_program

    level = signal.get("loglevel") or signal.get("options", {}).get("loglevel") or logging.WARNING
    name = level.upper() if isinstance(level, str) else logging.getLevelName(level)
    logging.config.dictConfig(logs.configuration_from_environment(name))
    logging.captureWarnings(True)
    # Celery's own function bypasses logging.
    worker_program.safe_say = _say  # type: ignore[attr-defined]


def _say(message: str, *_stream: Any) -> None:
    """Log what Celery prints in a signal handler, in one write, since the signal may have interrupted logging."""
    said = logging.LogRecord(__name__, logging.INFO, __file__, 0, "%s", (message,), None)
    handler = logging.getLogger().handlers[0]
    os.write(2, f"{handler.format(said)}\n".encode())


@signals.worker_init.connect
def share_connections(**_signal: Any) -> None:
    """Make the worker's threads share connections to the control database."""
    from config.queue.connections import pool_control_connections  # needs Django, which Celery has set up by now

    pool_control_connections()


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
