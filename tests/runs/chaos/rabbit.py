"""A vhost for the tests on this machine's RabbitMQ; it is deleted afterwards."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

ADDRESS = "amqp://guest:guest@127.0.0.1:5672"
USER = "guest"


@dataclass(frozen=True)
class Rabbit:
    vhost: str

    @property
    def url(self) -> str:
        return f"{ADDRESS}/{self.vhost}"

    def close_connections(self) -> None:
        """Close the vhost's connections, as a restart of the server would."""
        control("close_all_connections", "--vhost", self.vhost, "the server restarts")

    def purge(self) -> None:
        """Delete the messages that wait in our queues."""
        for queue in self.queues():
            control("purge_queue", "--vhost", self.vhost, queue)

    def queues(self) -> dict[str, str]:
        """Return the types of our queues by name, without Celery's own queues, such as those for delayed messages."""
        listed = control("list_queues", "--vhost", self.vhost, "--quiet", "--no-table-headers", "name", "type")
        found = dict(line.split("\t") for line in listed.splitlines())
        return {name: kind for name, kind in found.items() if name.startswith("seo-gen")}


@contextmanager
def own_vhost() -> Iterator[Rabbit]:
    rabbit = Rabbit(f"seo-gen-tests-{os.getpid()}")
    control("add_vhost", rabbit.vhost)
    try:
        control("set_permissions", "--vhost", rabbit.vhost, USER, ".*", ".*", ".*")
        yield rabbit
    finally:
        control("delete_vhost", rabbit.vhost)


def is_available() -> bool:
    """Return whether RabbitMQ runs here and we may administer it."""
    return shutil.which("rabbitmqctl") is not None and _run("list_vhosts", "--quiet").returncode == 0


def control(*words: str) -> str:
    """Run rabbitmqctl and return its output; raise `RuntimeError` if it fails."""
    done = _run(*words)
    if done.returncode:
        raise RuntimeError(f"rabbitmqctl {words[0]}: {done.stderr or done.stdout}")
    return done.stdout


def _run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["rabbitmqctl", *words], capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
    )
