"""A bare Celery chain without a database, files or claims: what the broker and the workers alone can do."""

import os

from celery import Celery, chain

from benchmarks.engine.call import ask

QUEUE = "bare"

app = Celery("bare", broker=os.environ.get("BARE_BROKER_URL"))
app.conf.update(task_default_queue=QUEUE, task_ignore_result=True, task_acks_late=True, worker_prefetch_multiplier=1)


@app.task(name="bare.step")
def do_step(previous: str, step: str) -> str:
    return ask(step, previous)


def enqueue(runs: int, steps: list[str]) -> None:
    for number in range(runs):
        signatures = [do_step.s(f"run {number}", steps[0]), *(do_step.s(step) for step in steps[1:])]
        chain(*signatures).apply_async()
