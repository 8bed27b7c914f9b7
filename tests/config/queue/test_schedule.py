"""Beat: a task that cannot be sent, and the schedule of the comparison of costs."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from celery import Celery
from celery.beat import ScheduleEntry
from celery.schedules import crontab, schedule

from config.queue.schedule import Scheduler
from runs.messages.task_names import COMPARE_COSTS, SWEEP

# Nothing listens there.
NO_BROKER = "redis://127.0.0.1:9/0"


def test_a_task_that_cannot_be_sent_costs_one_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    app = Celery("beat", broker=NO_BROKER, set_as_current=False)
    scheduler = Scheduler(app=app, lazy=True, schedule_filename=str(tmp_path / "schedule"))
    with caplog.at_level(logging.INFO):
        scheduler.apply_entry(ScheduleEntry(name=SWEEP, task=SWEEP, schedule=schedule(1.0), app=app))
    warning = caplog.records[-1]
    assert warning.getMessage() == "task not sent"
    assert (warning.levelname, warning.exc_info, vars(warning)["error"]) == ("WARNING", None, "OperationalError")


def test_costs_are_compared_once_a_day(tmp_path: Path) -> None:
    app = Celery("beat", broker=NO_BROKER, set_as_current=False)
    Scheduler(app=app, schedule_filename=str(tmp_path / "schedule"))
    assert app.conf.beat_schedule[COMPARE_COSTS] == {
        "task": COMPARE_COSTS,
        "schedule": crontab(hour="4", minute="30"),
    }
