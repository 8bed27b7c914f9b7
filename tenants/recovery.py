from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime

from tenants.models import DatabaseServer


@dataclass(frozen=True)
class Target:
    time: datetime | None = None
    name: str | None = None


@contextmanager
def recovered_server(server: DatabaseServer, target: Target, *, work: str) -> Iterator[DatabaseServer]:
    raise NotImplementedError
    yield server
