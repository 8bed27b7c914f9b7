"""Compare the rows of calls with the provider's ledger, call by call."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime

from runs.models import Call, CallStatus
from tests.runs.chaos.provider import UNKNOWABLE
from tests.runs.fake_llm import Billed

# The error codes with which a worker records a call whose end it did not see.
LATE = ("llm_timeout", "llm_stalled")
ABORTED = "llm_call_aborted"
# The database and the provider share a clock, but a row's time is that at which its statement began.
TOLERANCE_S = 0.01


@dataclass(frozen=True)
class Maker:
    """What happened to the worker that made a call."""

    was_killed: bool
    was_stopped: bool
    was_frozen: bool


@dataclass
class Comparison:
    """The result of a comparison. An unknown call is counted under its explanation; without one, it is a problem."""

    problems: list[str] = field(default_factory=list)
    settled: int = 0
    explained: Counter[str] = field(default_factory=Counter)
    # Calls with unknown cost, by the worker that was killed during them.
    by_kill: Counter[str] = field(default_factory=Counter)

    @property
    def unknown(self) -> int:
        return sum(self.explained.values())


class Comparer:
    """Compares the calls of one step at a time."""

    def __init__(
        self,
        ledger: Iterable[Billed],
        name_of: Callable[[str], str],
        *,
        gaps: Iterable[tuple[float, float]],
        concurrency: int,
    ) -> None:
        self.found = Comparison()
        self._concurrency = concurrency
        self._gaps = list(gaps)
        self._entries: dict[str, list[Billed]] = defaultdict(list)
        for entry in ledger:
            self._entries[name_of(entry.prompt)].append(entry)

    def compare(self, mark: str, calls: list[Call], maker_of: Callable[[Call], tuple[str, Maker] | None]) -> None:
        """Compare the calls of the step with this mark. `maker_of` returns a worker's name and `Maker`, or None."""
        entries = {entry.request_id: entry for entry in self._entries.pop(mark, [])}
        unknown = []
        for call in calls:
            if call.status == CallStatus.SETTLED:
                self.found.settled += 1
                self._settled(mark, call, entries)
            elif call.status == CallStatus.UNKNOWN:
                unknown.append(call)
            else:
                self._problem(mark, f"call {call.pk} is still {call.status}")
        pairs = self._paired(mark, unknown, sorted(entries.values(), key=lambda entry: entry.at))
        for call, entry in pairs:
            reason = self._reason(call, entry, maker_of(call))
            if reason is None:
                self._problem(mark, f"nothing explains why {_described(call)} of {maker_of(call)} is unknown ({entry})")
            else:
                self.found.explained[reason] += 1

    def finish(self) -> Comparison:
        """Make the last checks, such as for requests in the ledger that belong to no step, and return the result."""
        self.found.by_kill = +self.found.by_kill
        for name, number in self.found.by_kill.items():
            if number > self._concurrency:
                self._problem(name, f"left {number} unknown calls, but had {self._concurrency} threads")
        for mark, entries in self._entries.items():
            self._problem(mark, f"{len(entries)} requests of no known step")
        return self.found

    def _settled(self, mark: str, call: Call, entries: dict[str, Billed]) -> None:
        if call.request_id is None:
            if call.token_usage:
                self._problem(mark, f"call {call.pk} used tokens, and has no request id")
            return
        entry = entries.pop(call.request_id, None)
        if entry is None:
            self._problem(mark, f"call {call.pk} has the request id {call.request_id}, which is not in the ledger")
            return
        billed = entry.usage.as_document() if entry.usage else {}
        if call.token_usage != billed:
            self._problem(mark, f"call {call.pk} used {call.token_usage}; the provider billed {billed} ({entry})")

    def _paired(self, mark: str, calls: list[Call], entries: list[Billed]) -> Iterator[tuple[Call, Billed | None]]:
        """Yield (call, request) for each unknown call; the request is None if the ledger has none for the call.

        Of several possible calls, the last that began before the request is chosen. A request without one is a problem.
        """
        left = sorted(calls, key=lambda call: call.started_at)
        for entry in entries:
            before = [call for call in left if _seconds(call.started_at) <= entry.at + TOLERANCE_S]
            if not before:
                self._problem(mark, f"request {entry.request_id} has no row ({entry})")
                continue
            left.remove(before[-1])
            yield before[-1], entry
        yield from ((call, None) for call in left)

    def _reason(self, call: Call, entry: Billed | None, made: tuple[str, Maker] | None) -> str | None:
        name, maker = made or ("", Maker(was_killed=False, was_stopped=False, was_frozen=False))
        reasons = {
            f"provider: {entry and entry.fault}": entry is not None and entry.fault in UNKNOWABLE,
            "worker killed": maker.was_killed and call.error_code is None,
            "call aborted": call.error_code == ABORTED,
            "worker frozen": maker.was_frozen and call.error_code in LATE,
            "database lost as the call began": entry is None and self._is_lost(call.started_at, call.started_at),
            # A worker that stops cannot wait until the database is back.
            "worker stopped while the database was lost": maker.was_stopped
            and self._is_lost(call.started_at, call.ended_at),
        }
        reason = next((reason for reason, holds in reasons.items() if holds), None)
        self.found.by_kill[name] += reason == "worker killed"
        return reason

    def _is_lost(self, since: datetime, until: datetime | None) -> bool:
        """Return whether the database was lost in that time, or within a second afterwards."""
        ended = _seconds(until) if until else math.inf
        return any(begun - 1 <= ended and _seconds(since) <= end for begun, end in self._gaps)

    def _problem(self, mark: str, text: str) -> None:
        self.found.problems.append(f"{mark} {text}")


def _seconds(moment: datetime) -> float:
    return moment.timestamp()


def _described(call: Call) -> str:
    lasted = f"{call.started_at:%H:%M:%S.%f} to {call.ended_at:%H:%M:%S.%f}" if call.ended_at else "open"
    return f"call {call.pk} of run {call.run_id} (attempt {call.attempt}, {call.error_code}, {lasted})"
