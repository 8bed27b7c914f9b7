"""What beat does at an hour of the day, and where it keeps when it last ran what."""

import sys
from pathlib import Path

from celery.beat import PersistentScheduler
from celery.schedules import crontab
from django.conf import settings


class Scheduler(PersistentScheduler):
    """Celery's own, which adds the daily backup, and makes the folder of its file.

    Beat may be the first program that is started in a home.
    """

    schedule_filename: str

    def setup_schedule(self) -> None:
        folder = Path(self.schedule_filename).resolve().parent
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            print(f"Beat's folder {folder} cannot be made: {error.strerror}.", file=sys.stderr)
            print("Set SEO_GEN_HOME to a folder of yours.", file=sys.stderr)
            raise SystemExit(1) from error
        if settings.BACKUP_DAILY_OUTPUT:
            # Not in the settings, which every command reads: Celery is slow to load.
            at = crontab(hour=str(settings.BACKUP_DAILY_HOUR), minute="0")
            self.app.conf.beat_schedule["tenants.backup_daily"] = {"task": "tenants.backup_daily", "schedule": at}
        super().setup_schedule()
