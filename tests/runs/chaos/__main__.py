"""Run the chaos test; `python -m tests.runs.chaos --help` lists its options."""

from __future__ import annotations

import faulthandler
import os
import signal
import sys
from contextlib import ExitStack

from tests.runs.chaos.plan import TIMES, read_plan
from tests.support import environment


def main() -> int:
    faulthandler.register(signal.SIGUSR1, all_threads=True)
    plan = read_plan()
    with ExitStack() as stack:
        home = environment.start()
        stack.callback(environment.remove, home)
        os.environ.update({name: str(value) for name, value in TIMES.items()})
        if plan.amqp:
            os.environ.update(CELERY_BROKER_URL=plan.amqp, CELERY_QUEUE_TYPE="quorum")
        if plan.s3:
            from tests.support.s3 import running_s3

            folder = home.path / "s3"
            folder.mkdir()
            os.environ.update(stack.enter_context(running_s3(folder)).environment())
        # The addresses that the settings read are known only now.
        import django

        django.setup()
        from tests.runs.chaos.course import run

        report = run(plan, home)
    print(report.text(), flush=True)
    return 1 if report.findings.problems else 0


if __name__ == "__main__":
    sys.exit(main())
