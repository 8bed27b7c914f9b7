"""Start, repair, stop and describe the services of one home."""

import os
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

import psutil

from config.stack import postgres, process
from config.stack.environment import SERVERS, embedded_servers
from config.stack.errors import PortTaken, StackError
from config.stack.paths import Home
from config.stack.process import ProcessRecord
from config.stack.service import Service
from config.stack.state import Secrets, ServiceRecord, ensure_secrets, load_state, locked, save_state
from config.stack.workers import Beat, Web, Worker

WORKERS: tuple[Service, ...] = (Worker(), Beat(), Web())
SERVICES: tuple[Service, ...] = (*SERVERS, *WORKERS)
NAMES = tuple(service.name for service in SERVICES)
NAMES_WITH_PORT = tuple(service.name for service in SERVICES if service.has_port)
# Backends of a killed PostgreSQL hold its shared memory until they notice.
RETRY_WAIT_S = 10.0
RETRY_STEP_S = 0.2

Progress = Callable[[str], None]


@dataclass(frozen=True)
class ServiceStatus:
    name: str
    # "running", "stopped", or "external" if the environment points to another server.
    state: str
    port: int | None = None
    pid: int | None = None
    # Seconds since the epoch.
    started: float | None = None
    log: str = ""


def is_started(home: Home) -> bool:
    """Return whether every embedded server is running and set up for this release. Needs no lock and no connection."""
    state, servers = load_state(home), embedded_servers(home)
    current = state.postgres_bootstrap == postgres.BOOTSTRAP_VERSION
    return all(_lives(state.services.get(server.name)) and (current or server.name != "postgres") for server in servers)


def is_running(home: Home, name: str) -> bool:
    """Return whether the named service's process is running. Like `is_started`, takes no lock."""
    return _lives(load_state(home).services.get(name))


def ensure_started(home: Home, on_progress: Progress = lambda text: None) -> list[str]:
    """Start or repair the embedded servers unless `is_started`; return the names of those started."""
    return [] if is_started(home) else start(home, [], on_progress=on_progress)


def start(
    home: Home,
    names: Iterable[str],
    *,
    ports: Mapping[str, int] | None = None,
    on_progress: Progress = lambda text: None,
) -> list[str]:
    """Start or repair the embedded servers and the named workers; return the names of those started.

    `ports` fixes ports by service, as do the variables ``SEO_GEN_<SERVICE>_PORT``. Running workers are restarted if a
    server moves to another port, since they know only the old one. Raises `StackError`.
    """
    with locked(home):
        return _Starter(home, ports or {}, on_progress).run(set(names))


def stop(
    home: Home,
    names: Iterable[str] = NAMES,
    on_progress: Progress = lambda text: None,
    *,
    wait_s: float | None = None,
) -> list[str]:
    """Stop the named services that are running, workers first; return the names of those stopped.

    `wait_s` is how long a worker may wait for its calls; if it is None, the service's own limit applies.
    """
    chosen = set(names)
    if not home.path.exists():
        return []
    with locked(home):
        stopped = []
        for service in reversed(SERVICES):
            if service.name in chosen and _stop_one(home, service, on_progress, wait_s):
                stopped.append(service.name)
        return stopped


def status(home: Home) -> list[ServiceStatus]:
    embedded = {server.name for server in embedded_servers(home)}
    records = load_state(home).services
    return [_status_of(home, service, records.get(service.name), embedded) for service in SERVICES]


class _Starter:
    """One call of `start`, made under the home's lock. Each step is recorded as soon as it is done."""

    def __init__(self, home: Home, ports: Mapping[str, int], on_progress: Progress) -> None:
        self.home = home
        self.ports = ports
        self.on_progress = on_progress
        self.secrets: Secrets = ensure_secrets(home)
        self.started: list[str] = []
        self.moved = False

    def run(self, worker_names: set[str]) -> list[str]:
        for server in embedded_servers(self.home):
            self._ensure(server)
            if server.name == "postgres":
                self._bootstrap()
        if self.moved:
            worker_names |= self._stop_running_workers()
        for worker in WORKERS:
            if worker.name in worker_names:
                self._ensure(worker)
        return self.started

    def _ensure(self, service: Service) -> None:
        old = load_state(self.home).services.get(service.name)
        running, port = find(self.home, service)
        fixed = self._fixed_port(service)
        if running and fixed in (None, port) and self._becomes_ready(service, running, port):
            self._record(service, port, running)
            return
        if running:
            process.end(running, service.stop_steps)
        _end_orphans(self.home, service)
        self.on_progress(f"Starting {service.title}")
        new_port = self._launch(service, fixed, old)
        self.started.append(service.name)
        self.moved |= old is not None and old.port != new_port

    def _launch(self, service: Service, fixed: int | None, old: ServiceRecord | None) -> int:
        """Launch the service, wait until it is ready, and return its port.

        If its previous port is taken, another one is used. Raises `PortTaken` if its fixed port is taken, or
        `StackError` if it does not become ready.
        """
        port = fixed or (old.port if old else 0)
        deadline = time.monotonic() + (RETRY_WAIT_S if self._is_recovering(service) else 0)
        while True:
            port = self._choose_port(service, port, fixed)
            if self._run(service, port):
                return port
            # Another process may have taken the port between our check and the server's bind.
            taken = service.has_port and not process.is_free(port)
            if not taken and time.monotonic() > deadline:
                raise self._failure(service, _last_line(self.home, service))
            time.sleep(RETRY_STEP_S)

    def _run(self, service: Service, port: int) -> bool:
        """Return True once the server is ready, False if it exited. Raises `StackError` if it does neither."""
        launch = service.launch(self.home, self.secrets, port)
        log = self.home.log_file(service.name)
        running = process.alive(process.spawn(launch, mark=_mark(self.home, service, port), log=log))
        if running is None:
            return False
        self._record(service, port, running)
        ready = self._becomes_ready(service, running, port)
        if not ready and not process.gone(running):
            raise self._failure(service, f"it is not ready after {service.ready_wait_s:.0f} seconds")
        return ready

    def _failure(self, service: Service, reason: str) -> StackError:
        log = self.home.log_file(service.name)
        return StackError(
            f"{service.title} did not start: {reason.rstrip('.')}.", hint=f"See {log}.", code="service_not_started"
        )

    def _is_recovering(self, service: Service) -> bool:
        return service.name == "postgres" and load_state(self.home).postgres_bootstrap > 0

    def _becomes_ready(self, service: Service, running: psutil.Process, port: int) -> bool:
        def ended_or_ready() -> bool:
            return process.gone(running) or service.ready(self.home, self.secrets, port)

        process.wait_until(ended_or_ready, service.ready_wait_s)
        return not process.gone(running) and service.ready(self.home, self.secrets, port)

    def _choose_port(self, service: Service, wanted: int, fixed: int | None) -> int:
        if not service.has_port:
            return 0
        if wanted and process.is_free(wanted):
            return wanted
        if fixed:
            message = f"{service.title} cannot start: port {fixed} is in use by another program."
            raise PortTaken(message, hint=f"Free it, or choose another ({service.port_variable}).")
        return process.free_port()

    def _fixed_port(self, service: Service) -> int | None:
        raw = self.ports.get(service.name) or os.environ.get(service.port_variable)
        if not raw or not service.has_port:
            return None
        try:
            port = int(raw)
        except ValueError as error:
            raise StackError(f"{service.port_variable} is not a port number: {raw}.", code="port_invalid") from error
        if not 0 < port < 65536:
            raise StackError(
                f"{service.title} cannot use port {port}.", hint="Ports are 1 to 65535.", code="port_invalid"
            )
        return port

    def _record(self, service: Service, port: int, running: psutil.Process) -> None:
        record = ServiceRecord(port, ProcessRecord(running.pid, running.create_time()))
        save_state(self.home, load_state(self.home).with_service(service.name, record))

    def _bootstrap(self) -> None:
        state = load_state(self.home)
        if state.postgres_bootstrap != postgres.BOOTSTRAP_VERSION:
            postgres.bootstrap(self.secrets, state.services["postgres"].port)
            save_state(self.home, replace(state, postgres_bootstrap=postgres.BOOTSTRAP_VERSION))

    def _stop_running_workers(self) -> set[str]:
        return {worker.name for worker in WORKERS if _stop_one(self.home, worker, self.on_progress)}


def find(home: Home, service: Service) -> tuple[psutil.Process | None, int]:
    """Return the service's running process (or None) and its port (0 if unknown).

    The process is the recorded one, or else one that carries our mark.
    """
    record = load_state(home).services.get(service.name)
    running = process.alive(record.process) if record else None
    if record and running:
        return running, record.port
    prefix = _mark_prefix(home, service)
    for candidate, mark in process.marked(prefix):
        if process.leads_session(candidate):
            return candidate, int(mark.removeprefix(prefix))
    return None, record.port if record else 0


def _stop_one(home: Home, service: Service, on_progress: Progress, wait_s: float | None = None) -> bool:
    running, port = find(home, service)
    if running:
        on_progress(f"Stopping {service.title}")
        process.end(running, service.steps_to_stop(wait_s))
    _end_orphans(home, service)
    state = load_state(home)
    if service.name in state.services:
        save_state(home, state.with_service(service.name, ServiceRecord(port or state.services[service.name].port)))
    return running is not None


def _end_orphans(home: Home, service: Service) -> None:
    """End what a killed server left behind, such as gunicorn's worker processes."""
    for orphan, _mark_text in process.marked(_mark_prefix(home, service)):
        process.end(orphan, service.stop_steps[-1:])


def _status_of(home: Home, service: Service, record: ServiceRecord | None, embedded: set[str]) -> ServiceStatus:
    if service in SERVERS and service.name not in embedded:
        return ServiceStatus(service.name, "external")
    running = process.alive(record.process) if record else None
    port = (record.port or None) if record else None
    log = str(home.log_file(service.name))
    if running is None:
        return ServiceStatus(service.name, "stopped", port, log=log)
    return ServiceStatus(service.name, "running", port, running.pid, running.create_time(), log)


def _lives(record: ServiceRecord | None) -> bool:
    return record is not None and process.alive(record.process) is not None


def _mark_prefix(home: Home, service: Service) -> str:
    return f"{home.path}|{service.name}|"


def _mark(home: Home, service: Service, port: int) -> str:
    return f"{_mark_prefix(home, service)}{port}"


def _last_line(home: Home, service: Service) -> str:
    log = home.log_file(service.name)
    lines = log.read_text(errors="replace").strip().splitlines() if log.exists() else []
    return lines[-1] if lines else "it left no message"
