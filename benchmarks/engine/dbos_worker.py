"""The pipeline as a DBOS workflow, as in DBOS's manual: https://docs.dbos.dev/python/tutorials/queue-tutorial

`python -m benchmarks.engine.dbos_worker work CONCURRENCY POLL_S` works until SIGTERM; `… enqueue RUNS` adds runs.
"""

import os
import signal
import sys
import threading

from dbos import DBOS, DBOSClient, DBOSConfig

from benchmarks.engine.call import ask

QUEUE = "articles"
WORKFLOW = "write_article"
STEPS = os.environ["BENCHMARK_STEPS"].split(",")

durable_ask = DBOS.step(name="ask")(ask)


def write_article(keyword: str) -> str:
    text = keyword
    for step in STEPS:
        text = durable_ask(step, text)
    return text


DBOS.workflow(name=WORKFLOW)(write_article)


def work(concurrency: int, poll_s: float) -> None:
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    config: DBOSConfig = {
        "name": "benchmark",
        "system_database_url": os.environ["DBOS_URL"],
        # Must differ between processes.
        "executor_id": str(os.getpid()),
        # Fixed, so that a restarted worker counts as the same version.
        "application_version": "1",
    }
    DBOS(config=config)
    DBOS.launch()
    DBOS.register_queue(QUEUE, worker_concurrency=concurrency, polling_interval_sec=poll_s)
    print("ready", flush=True)
    ended.wait()
    DBOS.destroy()


def enqueue(runs: int) -> None:
    client = DBOSClient(system_database_url=os.environ["DBOS_URL"])
    for number in range(runs):
        client.enqueue({"queue_name": QUEUE, "workflow_name": WORKFLOW}, f"run {number}")
    client.destroy()


if __name__ == "__main__":
    if sys.argv[1] == "work":
        work(int(sys.argv[2]), float(sys.argv[3]))
    else:
        enqueue(int(sys.argv[2]))
