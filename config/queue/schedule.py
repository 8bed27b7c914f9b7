"""Beat's scheduler: the daily backup, and the folder of its state file."""

import sys
from pathlib import Path

from celery.beat import PersistentScheduler
from celery.schedules import crontab
from django.conf import settings


class Scheduler(PersistentScheduler):
    """Celery's scheduler, which also adds the daily backup and creates the folder of its state file.

    Beat may be the first program to start in a new SEO_GEN_HOME.
    """

    schedule_filename: str

    def setup_schedule(self) -> None:
        folder = Path(self.schedule_filename).resolve().parent
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            print(f"Beat's folder {folder} cannot be created: {error.strerror}.", file=sys.stderr)
            print("Set SEO_GEN_HOME to a folder that you can write to.", file=sys.stderr)
            raise SystemExit(1) from error
        if settings.BACKUP_DAILY_OUTPUT:
            # Not in the settings, which every command reads: Celery is slow to import.
            at = crontab(hour=str(settings.BACKUP_DAILY_HOUR), minute="0")
            self.app.conf.beat_schedule["tenants.backup_daily"] = {"task": "tenants.backup_daily", "schedule": at}
        super().setup_schedule()
