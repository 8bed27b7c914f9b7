"""Observe from outside what a worker and its servers use: processor time, memory, connections."""

from __future__ import annotations

from collections.abc import Iterator

import psutil

from benchmarks.environment import Environment
from config.stack.state import load_state

SERVICES = ("worker", "postgres", "valkey")


class Watch:
    """Watches the running worker; `look` has to be called often enough to see its peaks."""

    def __init__(self, environment: Environment) -> None:
        services = load_state(environment.home).services
        self._processes = {}
        for name in SERVICES:
            record = services[name].process
            assert record is not None, name
            self._processes[name] = psutil.Process(record.pid)
        self._postgres_port = services["postgres"].port
        # Memory of the worker and the processes that it started, without what they share.
        self.peak_bytes = 0
        self.peak_connections = 0

    def look(self) -> None:
        self.peak_bytes = max(self.peak_bytes, sum(_memory_bytes(self._processes["worker"])))
        self.peak_connections = max(self.peak_connections, self._connections())

    def processor_seconds(self) -> dict[str, float]:
        """Return the processor time that each service has used so far, including the processes that it has started."""
        return {name: sum(_processor_seconds(process)) for name, process in self._processes.items()}

    def memory_bytes(self, service: str) -> int:
        return sum(_memory_bytes(self._processes[service]))

    def _connections(self) -> int:
        """Return how many connections to PostgreSQL the worker has."""
        found = self._processes["worker"].net_connections("tcp")
        return sum(bool(one.raddr) and one.raddr.port == self._postgres_port for one in found)


def _tree(process: psutil.Process) -> list[psutil.Process]:
    return [process, *process.children(recursive=True)]


def _processor_seconds(root: psutil.Process) -> Iterator[float]:
    """Yield each process's CPU time in seconds, including that of its children that have ended."""
    for process in _tree(root):
        try:
            used = process.cpu_times()
        except psutil.NoSuchProcess:
            continue  # its parent's seconds now include its own
        yield used.user + used.system + used.children_user + used.children_system


def _memory_bytes(root: psutil.Process) -> Iterator[int]:
    """Yield the memory of the process itself, and what each child does not share with others."""
    yield root.memory_info().rss
    for process in root.children(recursive=True):
        try:
            yield process.memory_full_info().uss
        except psutil.NoSuchProcess:
            continue
