"""The report of a chaos run as text: what was disturbed, what happened, and which problems were found."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from tests.runs.chaos.checks import Findings
from tests.runs.chaos.people import Deed
from tests.runs.fake_llm import Billed


@dataclass
class Report:
    seconds: dict[str, float] = field(default_factory=dict)
    disturbances: Mapping[str, int] = field(default_factory=dict)
    workers_started: int = 0
    deeds: list[Deed] = field(default_factory=list)
    suspensions: int = 0
    ledger: list[Billed] = field(default_factory=list)
    findings: Findings = field(default_factory=Findings)
    # The last lines of tracebacks in the workers' logs: bugs, or failures that deserve one line.
    tracebacks: Mapping[str, int] = field(default_factory=dict)

    def text(self) -> str:
        found, calls = self.findings, self.findings.calls
        faults = Counter(
            entry.fault or str(entry.status) for entry in self.ledger if entry.fault or entry.status != 200
        )
        deeds = Counter(f"{deed.action} {deed.outcome}" for deed in self.deeds)
        billed = sum(entry.usage is not None for entry in self.ledger)
        rows = {
            "seconds": ", ".join(f"{name} {value:.1f}" for name, value in self.seconds.items()),
            "runs": _counted(found.statuses),
            "steps": f"{found.attempts} claims, {found.takeovers} takeovers, {found.returned} returned,"
            f" {found.outputs_read} outputs read, {found.versions} files of older versions",
            "people": f"{_counted(deeds)}; {self.suspensions} suspensions",
            "disturbances": _counted(self.disturbances),
            "workers": f"{self.workers_started} started, {len(calls.by_kill)} killed in a call",
            "requests": f"{len(self.ledger)}, of which {billed} may be billed; faults: {_counted(faults)}",
            "calls": f"{calls.settled} settled, {calls.unknown} with unknown cost: {_counted(calls.explained)}",
            "tracebacks": _counted(self.tracebacks),
            "problems": str(len(found.problems)),
        }
        width = max(map(len, rows))
        lines = [f"{name:{width}}  {value}" for name, value in rows.items()]
        return "\n".join([*lines, *found.problems])


def tracebacks_of(logs: Iterable[str]) -> Counter[str]:
    """Return the first 160 characters of the error of each traceback in the logs, with the number of occurrences."""
    found: Counter[str] = Counter()
    for log in logs:
        inside = False
        for line in log.splitlines():
            if line.startswith("Traceback (most recent call last)"):
                inside = True
            elif inside and line and not line.startswith((" ", "\t")):
                found[line[:160]] += 1
                inside = False
    return found


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{number} {name}" for name, number in sorted(counts.items())) or "none"
