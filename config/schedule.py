"""Where beat keeps when it last ran what."""

import sys
from pathlib import Path

from celery.beat import PersistentScheduler


class Scheduler(PersistentScheduler):
    """Celery's own, which makes the folder of its file: beat may be the first program that is started in a home."""

    schedule_filename: str

    def setup_schedule(self) -> None:
        folder = Path(self.schedule_filename).resolve().parent
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            print(f"Beat's folder {folder} cannot be made: {error.strerror}.", file=sys.stderr)
            print("Set SEO_GEN_HOME to a folder of yours.", file=sys.stderr)
            raise SystemExit(1) from error
        super().setup_schedule()
