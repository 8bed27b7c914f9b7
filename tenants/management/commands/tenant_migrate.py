from collections.abc import Callable, Iterable
from dataclasses import asdict
from typing import Any

from django.core.management.base import CommandParser
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from config.base.command import OperatorCommand, Refusal
from config.base.output import print_table
from tenants.fleet.migrate import LOCK_TIMEOUT_S, WORKERS, tenant_migrate
from tenants.presentation import batch_progress
from tenants.schema.releases import short

# Workers, and seconds to wait for a lock, must be below this.
MAXIMUM = 1000
# Error codes by outcome.
CODES = {
    "completed": "tenants_not_migrated",
    "rolled_back": "migration_rolled_back",
    "unfinished": "migration_unfinished",
}


class Command(OperatorCommand):
    help = "Migrate the databases of all tenants, or of one, to this code's version, all or nothing."

    def add_arguments(self, parser: CommandParser) -> None:
        which = parser.add_mutually_exclusive_group(required=True)
        which.add_argument("--all", action="store_true", help="Every tenant, suspended ones included.")
        which.add_argument("--tenant-id", help="Only this tenant.")
        parser.add_argument(
            "--dry-run",
            action="store_true",
            help="Prepare everything, report time and locks per tenant, then roll back.",
        )
        parser.add_argument(
            "--workers", type=at_least(1), default=WORKERS, metavar="N", help=f"Tenants at a time ({WORKERS})."
        )
        parser.add_argument(
            "--lock-timeout",
            type=at_least(0.1),
            default=LOCK_TIMEOUT_S,
            metavar="S",
            help=f"Seconds to wait for a lock in a busy tenant before everything is rolled back ({LOCK_TIMEOUT_S:g}).",
        )
        super().add_arguments(parser)

    def perform(self, **options: Any) -> Any:
        with batch_progress() as on_progress:
            self.report = tenant_migrate(
                tenant_id=options["tenant_id"],
                dry_run=options["dry_run"],
                workers=int(options["workers"]),
                lock_timeout_s=options["lock_timeout"],
                on_progress=on_progress,
            )
        return asdict(self.report)

    def present(self, document: Any) -> None:
        if document["outcome"] != "completed":
            return
        values = {**document, "version": short(document["version"])}
        if not document["tenant_count"]:
            self.stdout.write(_("There are no tenants to migrate."))
            return
        if not document["pending_count"]:
            nothing = ngettext(
                "Nothing to do: %(tenant_count)d tenant, at %(version)s.",
                "Nothing to do: %(tenant_count)d tenants, all at %(version)s.",
                document["tenant_count"],
            )
            self.stdout.write(nothing % values)
            return
        if document["dry_run"]:
            print_table(
                [_("tenant"), _("migrations"), _("prepared (ms)"), _("locked (ms)"), _("locks")], _rows(document)
            )
        print_table(
            [_("server"), _("from version"), _("tenants"), _("migrations"), _("prepared (ms)"), _("locked (ms)")],
            _summary(document),
        )
        times = ", ".join(f"{name} {ms / 1000:.1f} s" for name, ms in document["timing_ms"].items())
        self.stdout.write(f"{times}.")
        if document["dry_run"]:
            done = ngettext(
                "Dry run: %(tenant_count)d tenant would be migrated. Nothing has changed.",
                "Dry run: %(pending_count)d of %(tenant_count)d tenants would be migrated. Nothing has changed.",
                document["tenant_count"],
            )
        elif document["problems"]:
            return
        else:
            done = ngettext(
                "Migrated: %(tenant_count)d tenant, now at %(version)s.",
                "Migrated: %(pending_count)d of %(tenant_count)d tenants. All are at %(version)s.",
                document["tenant_count"],
            )
        self.stdout.write(done % values)

    def handle(self, *args: Any, **options: Any) -> None:
        super().handle(*args, **options)
        report = self.report
        if report.outcome == "completed" and not report.problems:
            return
        states = {
            "completed": _("Batch %(id)s was committed, but not in every tenant:") % {"id": report.batch_id},
            "rolled_back": _("No tenant was changed (batch %(id)s).") % {"id": report.batch_id},
            "unfinished": _("Batch %(id)s has not finished: fix the problems below, then run `seo-gen tenant recover`.")
            % {"id": report.batch_id},
        }
        raise Refusal("\n".join([states[report.outcome], *report.problems]), code=CODES[report.outcome])


def at_least(minimum: float) -> Callable[[str], float]:
    def number(text: str) -> float:
        value = float(text)
        if not minimum <= value < MAXIMUM:
            raise ValueError
        return value

    return number


def _rows(document: Any) -> list[tuple[object, ...]]:
    return [
        (
            row["tenant_id"],
            ", ".join(row["migrations"]),
            row["prepared_ms"],
            row["locked_ms"],
            ", ".join(f"{relation} {mode.removesuffix('Lock')}" for relation, mode in row["locks"].items()),
        )
        for row in document["tenants"]
    ]


def _before(row: Any) -> str:
    """Return the previous version, limited to the apps that the migrations change."""
    apps = {migration.partition(".")[0] for migration in row["migrations"]}
    return " ".join(name for name in short(row["from_version"]).split() if name.partition(".")[0] in apps)


def _summary(document: Any) -> list[tuple[object, ...]]:
    """Return one row per server, previous version and migrations, with the longest times of its tenants."""
    groups: dict[tuple[str, str, str], list[Any]] = {}
    for row in document["tenants"]:
        groups.setdefault((row["server"], _before(row), ", ".join(row["migrations"])), []).append(row)
    return [
        (
            server,
            version,
            len(rows),
            migrations,
            _longest(row["prepared_ms"] for row in rows),
            _longest(row["locked_ms"] for row in rows),
        )
        for (server, version, migrations), rows in groups.items()
    ]


def _longest(times: Iterable[int | None]) -> int | str:
    """Return the longest time, or "-"; a tenant that the batch did not change has none."""
    known = [time for time in times if time is not None]
    return max(known) if known else "-"
