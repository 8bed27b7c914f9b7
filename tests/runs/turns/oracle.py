"""A second, naive implementation of what the script of `runs.turns` decides.

It keeps plain lists and dictionaries, and evaluates every rule on each call.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from runs.turns import Outcome, Turn, Waiting
from tests.runs.turns.driving import Clock, Limits

LEASE_MS = 60_000
FAULTS, WINDOW_MS, OPEN_MS, OPEN_MAX_MS = 5, 60_000, 30_000, 300_000


@dataclass
class Breaker:
    faults: int = 0
    since_ms: int = 0
    closed_until_ms: int = 0
    open_until_ms: int | None = None
    opens: int = 0
    probe: str | None = None

    def fail(self, now_ms: int, token: str) -> None:
        if token == self.probe:
            self.open(now_ms)
        elif self.open_until_ms is None:
            if not (self.faults and now_ms < self.since_ms + WINDOW_MS):
                self.faults, self.since_ms = 0, now_ms
            self.faults += 1
            if self.faults == FAULTS:
                self.open(now_ms)

    def open(self, now_ms: int) -> None:
        self.open_until_ms = now_ms + min(OPEN_MS * 2**self.opens, OPEN_MAX_MS)
        self.opens, self.faults, self.probe = self.opens + 1, 0, None

    def succeed(self, token: str) -> None:
        if self.open_until_ms is None or token == self.probe:
            self.faults, self.opens, self.open_until_ms, self.probe = 0, 0, None, None


@dataclass
class Oracle:
    clock: Clock
    limit: Limits
    waiting: list[Waiting] = field(default_factory=list)
    # token -> (step, when it ends)
    in_flight: dict[str, tuple[Waiting, int]] = field(default_factory=dict)
    # The tenants in the order in which they were served.
    served: list[str] = field(default_factory=list)
    # (scope and unit, second, number)
    counted: list[tuple[str, int, int]] = field(default_factory=list)
    breakers: dict[str, Breaker] = field(default_factory=dict)

    def choose(self) -> Waiting | None:
        """Return the step that must be taken now; None if none may start."""
        self.expire()
        firsts = [self._first(route) for route in {step.route for step in self.waiting} if self._is_open(route)]
        found = [step for step in firsts if step is not None]
        return min(found, key=lambda step: (*self._place(step), self.waiting.index(step)), default=None)

    def start(self, turn: Turn) -> None:
        step = turn.waiting
        self.waiting.remove(step)
        self.in_flight[turn.token] = step, self.clock.now_ms + LEASE_MS
        self.served.append(step.tenant_id)
        self._count(step, "requests", 1)
        if self._breaker(step).open_until_ms is not None:
            self._breaker(step).probe = turn.token

    def finish(self, turn: Turn, outcome: Outcome) -> None:
        breaker, now_ms = self._breaker(turn.waiting), self.clock.now_ms
        if outcome.kind == "ok":
            breaker.succeed(turn.token)
        elif outcome.kind == "failed":
            breaker.fail(now_ms, turn.token)
        if outcome.retry_after_s is not None:
            until_ms = now_ms + int(outcome.retry_after_s * 1000)
            breaker.closed_until_ms = max(breaker.closed_until_ms, until_ms)
        self._count(turn.waiting, "tokens", outcome.tokens)
        self._release(turn.token)
        self.expire()

    def renew(self, turn: Turn) -> None:
        self.in_flight[turn.token] = turn.waiting, self.clock.now_ms + LEASE_MS

    def expire(self) -> None:
        for token, (_step, ends_ms) in list(self.in_flight.items()):
            if ends_ms <= self.clock.now_ms:
                self._release(token)

    def used(self, scope: str) -> int:
        """Return the number of steps in flight in a scope: "tenant:…", "provider:…" or "model:…"."""
        return sum(scope in _scopes(step) for step, _ends in self.in_flight.values())

    def last_minute(self, name: str) -> int:
        second = self.clock.now_ms // 1000
        return sum(number for counted, at, number in self.counted if counted == name and at + 61 > second)

    def _first(self, route: str) -> Waiting | None:
        """Return the route's first waiting step of the tenant that is next among those below their limits, or None."""
        steps = [step for step in self.waiting if step.route == route and self._is_below_limit(step.tenant_id)]
        tenant = min((step.tenant_id for step in steps), key=lambda name: (*self._rank(name), name), default=None)
        return next((step for step in steps if step.tenant_id == tenant), None)

    def _is_below_limit(self, tenant: str) -> bool:
        return self.used(f"tenant:{tenant}") < self.limit.get(f"tenant:{tenant}", self.limit["tenants"])

    def _place(self, step: Waiting) -> tuple[int, int]:
        return self._rank(step.tenant_id)

    def _rank(self, tenant: str) -> tuple[int, int]:
        last = max((number for number, name in enumerate(self.served, start=1) if name == tenant), default=0)
        return self.used(f"tenant:{tenant}"), last

    def _is_open(self, route: str) -> bool:
        breaker = self.breakers.get(route, Breaker())
        if max(breaker.closed_until_ms, breaker.open_until_ms or 0) > self.clock.now_ms or breaker.probe is not None:
            return False
        return all(self._has_room(scope) for scope in (f"provider:{route.split('/', maxsplit=1)[0]}", f"model:{route}"))

    def _has_room(self, scope: str) -> bool:
        used = {
            "calls": self.used(scope),
            "requests": self.last_minute(f"{scope}:requests"),
            "tokens": self.last_minute(f"{scope}:tokens"),
        }
        return all(number < self.limit.get(f"{scope}:{unit}", 10**9) for unit, number in used.items())

    def _count(self, step: Waiting, unit: str, number: int) -> None:
        second = self.clock.now_ms // 1000
        self.counted += [(f"{scope}:{unit}", second, number) for scope in _scopes(step)]

    def _breaker(self, step: Waiting) -> Breaker:
        return self.breakers.setdefault(step.route, Breaker())

    def _release(self, token: str) -> None:
        step, _ends = self.in_flight.pop(token, (None, 0))
        if step is not None and self._breaker(step).probe == token:
            self._breaker(step).probe = None


def _scopes(step: Waiting) -> tuple[str, ...]:
    return f"tenant:{step.tenant_id}", f"provider:{step.route.split('/')[0]}", f"model:{step.route}"
