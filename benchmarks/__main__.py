"""Run all benchmarks, or those named, on servers of their own, and print their tables."""

import argparse
import logging
import signal
import sys
from collections.abc import Callable, Sequence

from benchmarks import children, environment, start
from benchmarks.audit_log import audit, audit_verify
from benchmarks.engine import backlog, fairness, long_calls, steps
from benchmarks.site import pages
from benchmarks.tables import Table
from benchmarks.tenants import backup, creation, erasure, migration, routing

BENCHMARKS: dict[str, Callable[[environment.Environment], list[Table]]] = {
    "start": start.start,
    "routing": routing.routing,
    "creation": creation.creation,
    "steps": steps.steps,
    "many-calls": long_calls.many_calls,
    "added-time": long_calls.added_time,
    "fairness": fairness.fairness,
    "backlog": backlog.backlog,
    "erasure": erasure.erasure,
    "audit": audit.audit,
    "audit-verify": audit_verify.audit_verify,
    "pages": pages.pages,
    "in-time": backup.in_time,
    "backup": backup.backup,
    # Last, because it leaves a thousand databases behind, which keep autovacuum busy.
    "migration": migration.migration,
}


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    which = f"which to run: {', '.join(BENCHMARKS)}; all if none is given"
    parser.add_argument("names", nargs="*", metavar="NAME", help=which)
    parser.add_argument("--verbose", action="store_true", help="report the seconds of every measurement on stderr")
    options = parser.parse_args(arguments)
    if options.verbose:
        _log_seconds()
    names = options.names or list(BENCHMARKS)
    if unknown := set(names) - set(BENCHMARKS):
        parser.error(f"there is no benchmark {', '.join(sorted(unknown))}")
    # On a signal, also stop everything that was started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    try:
        children.require_rivals()
        _run(names)
    except (children.Missing, KeyboardInterrupt) as error:
        print(error or "Interrupted.", file=sys.stderr)
        return 1
    return 0


def _log_seconds() -> None:
    logger = logging.getLogger("benchmarks")
    logger.addHandler(logging.StreamHandler())
    logger.setLevel(logging.DEBUG)


def _run(names: Sequence[str]) -> None:
    with environment.environment() as servers:
        for name in names:
            print(f"Measuring {name} …", file=sys.stderr, flush=True)
            for table in BENCHMARKS[name](servers):
                print("\n".join(table.lines()), flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
