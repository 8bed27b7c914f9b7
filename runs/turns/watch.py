"""Report why a step is waiting, and everything that is waiting or in flight."""

from __future__ import annotations

from datetime import UTC, datetime

from runs.turns import limits
from runs.turns.store import Unavailable, ask
from runs.turns.types import RouteLoad, Snapshot, TenantLoad, WaitReason


def why(tenant_id: str, run_id: str, step: str, route: str | None = None) -> WaitReason | None:
    """Return why a step is waiting; None if it is not waiting for a turn, or if the server cannot be reached.

    A step that has left a route for another may still be in the queue of the first; `route` is the current one.
    """
    try:
        reply = ask("why", tenant=tenant_id, run=run_id, step=step, route=route)
    except Unavailable:
        return None
    if not reply:
        return None
    return WaitReason(reply["kind"], reply["route"], reply["position"], _time(reply.get("until_ms")))


def snapshot() -> Snapshot | None:
    """Return what is waiting and what is in flight, busiest first; None if the server cannot be reached."""
    try:
        reply = ask("snapshot", routes=limits.routes())
    except Unavailable:
        return None
    routes = [
        RouteLoad(
            route=route,
            waiting=found["waiting"],
            in_flight=found["in_flight"],
            limit=found.get("limit"),
            provider_in_flight=found["provider_in_flight"],
            provider_limit=found.get("provider_limit"),
            breaker=found["breaker"],
            until=_time(found.get("until_ms")),
        )
        for route, found in reply["routes"].items()
    ]
    tenants = [
        TenantLoad(tenant, found["waiting"], found["in_flight"], found.get("limit"))
        for tenant, found in reply["tenants"].items()
    ]
    return Snapshot(
        routes=tuple(sorted(routes, key=lambda one: (-one.waiting, -one.in_flight, one.route))),
        tenants=tuple(sorted(tenants, key=lambda one: (-one.waiting, -one.in_flight, one.tenant_id))),
    )


def _time(milliseconds: int | None) -> datetime | None:
    return None if milliseconds is None else datetime.fromtimestamp(milliseconds / 1000, UTC)
