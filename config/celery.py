"""The Celery application: ``celery -A config.celery worker``."""

import os
import sys
from pathlib import Path
from typing import Any

from celery import Celery, signals
from kombu.exceptions import OperationalError

from config import broker

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

broker.register()
app = Celery("seo_gen", amqp="runs.messages:GuardedAMQP")
# `celery.current_app` is kept per thread: without this, threads that did not import this module (gunicorn's, a pool's)
# would get an application without settings, which sends to guest@localhost:5672.
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
