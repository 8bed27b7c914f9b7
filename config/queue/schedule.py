"""Beat's scheduler, which adds the daily tasks and creates the folder of its state file."""

import logging
import sys
from pathlib import Path
from typing import Any

from celery.beat import PersistentScheduler, SchedulingError
from celery.schedules import crontab
from django.conf import settings
from kombu.exceptions import OperationalError

from runs.messages.task_names import COMPARE_COSTS

logger = logging.getLogger(__name__)


class Scheduler(PersistentScheduler):
    """Celery's scheduler, which also adds the daily tasks and creates the folder of its state file.

    Beat may be the first program to start in a new SEO_GEN_HOME.
    """

    schedule_filename: str

    def apply_entry(self, entry: Any, producer: Any = None) -> None:
        """Send a due task. If that fails, log a warning and skip the task until it is due again.

        The warning is one line if the broker cannot be reached; otherwise it includes the traceback.
        """
        logger.info("Sending due task %s", entry.task, extra={"action": "beat.send"})
        try:
            self.apply_async(entry, producer=producer, advance=False)
        except SchedulingError as error:
            cause = error.__context__
            logger.warning(
                "task not sent",
                exc_info=None if isinstance(cause, (OperationalError, OSError)) else error,
                extra={"action": "beat.fail", "task": entry.task, "error": type(cause).__name__},
            )

    def setup_schedule(self) -> None:
        folder = Path(self.schedule_filename).resolve().parent
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            print(f"Beat's folder {folder} cannot be created: {error.strerror}.", file=sys.stderr)
            print("Set SEO_GEN_HOME to a folder that you can write to.", file=sys.stderr)
            raise SystemExit(1) from error
        # Not in the settings, which every command reads: Celery is slow to import.
        if settings.BACKUP_DAILY_OUTPUT:
            at = crontab(hour=str(settings.BACKUP_DAILY_HOUR), minute="0")
            self.app.conf.beat_schedule["tenants.backup_daily"] = {"task": "tenants.backup_daily", "schedule": at}
        at = crontab(hour="4", minute="30")
        self.app.conf.beat_schedule[COMPARE_COSTS] = {"task": COMPARE_COSTS, "schedule": at}
        super().setup_schedule()
