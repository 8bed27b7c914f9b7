"""The messages of tasks that may take hours."""

from __future__ import annotations

import pytest

from config.celery import app
from tenants.task_names import BACKUP_DAILY, OPERATION_RUN


@pytest.mark.parametrize("name", [BACKUP_DAILY, OPERATION_RUN])
def test_no_message_is_kept_while_an_operation_runs(name: str) -> None:
    """RabbitMQ closes a channel on which a message stays unacknowledged for 30 minutes, and the worker exits."""
    app.loader.import_default_modules()
    assert app.conf.task_acks_late
    assert app.tasks[name].acks_late is False
