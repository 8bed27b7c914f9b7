"""The base class of the stack's services: the embedded servers and the product's own processes."""

import signal
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence, Set

from config.stack.paths import Home
from config.stack.process import Launch, answers
from config.stack.state import Secrets


class Service(ABC):
    """One service: how to launch it, when it is ready, how to stop it."""

    name: str
    # Shown in progress messages and errors.
    title: str
    # The variables that point to it.
    provides: tuple[str, ...] = ()
    has_port = True
    ready_wait_s: float = 60.0
    stop_steps: Sequence[tuple[signal.Signals, float]] = ((signal.SIGTERM, 10.0), (signal.SIGKILL, 5.0))

    @abstractmethod
    def launch(self, home: Home, secrets: Secrets, port: int) -> Launch:
        """Prepare the files that the service needs, and return how to run it."""

    def ready(self, home: Home, secrets: Secrets, port: int) -> bool:
        """Return whether the service is ready; raise `StackError` if it never will be."""
        return answers(port)

    def settings(self, home: Home, secrets: Secrets, port: int) -> Mapping[str, str]:
        """Return the environment variables that point to the service."""
        return {}

    def replaced(self, elsewhere: Set[str]) -> bool:
        """Return whether the environment replaces the service; `elsewhere` are the variables for other servers."""
        return elsewhere >= set(self.provides)

    def steps_to_stop(self, wait_s: float | None) -> Sequence[tuple[signal.Signals, float]]:
        """Return the signals that stop the service, each with the seconds to wait after it.

        `wait_s`, if given, replaces the worker's wait for its calls; other services ignore it.
        """
        return self.stop_steps

    @property
    def port_variable(self) -> str:
        return f"SEO_GEN_{self.name.upper()}_PORT"
