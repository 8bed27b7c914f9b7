"""What logs are held against: anchors in the control database and in documents, each compared with the other.

The control log's entries "audit.anchor" have the digest of each run's anchors, and the sha256 of its document.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from itertools import groupby
from uuid import UUID

from django.db.models import QuerySet
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from audit.control.models import AuditAnchor, ControlAuditLog
from audit.verification.anchor_documents import anchor_place, documents_kept, link_problems
from audit.verification.anchors import Anchor, anchors_digest
from audit.verification.log_check import Kind, Problem
from config.base.databases import CONTROL
from config.base.errors import SeoGenError
from tenants.files.locations import Place

# The digest of no anchors at all.
NOTHING = anchors_digest([])


@dataclass(frozen=True)
class Anchoring:
    """A run of `audit_anchor`, as the control log's entry has it."""

    at: datetime
    count: object
    digest: object
    # {"place", "name", "sha256"}; {} where none was written.
    document: dict[str, object]


@dataclass
class Evidence:
    # How many documents there are, None where none are wanted.
    documents: int | None = None
    problems: list[Problem] = field(default_factory=list)
    # Of documents whose run the control log has not, or has otherwise: {identity: […]}.
    beyond: dict[UUID | None, list[Anchor]] = field(default_factory=lambda: defaultdict(list))

    def anchors_of(self, identity: UUID | None) -> list[Anchor]:
        """Return the anchors of a log, of the control database's own where `identity` is None."""
        rows = AuditAnchor.objects.using(CONTROL).filter(identity=identity).order_by("id")
        return [*map(Anchor.of_row, rows), *self.beyond.get(identity, [])]


def evidence_gather() -> Evidence:
    """Compare anchors, documents and the entries about both; return all of it with what does not agree."""
    # Read before the place is: a run in progress writes its document before its entry.
    runs = _runs()
    found = Evidence(problems=list(_about_runs(runs)))
    place = anchor_place()
    if place is not None:
        try:
            _take_documents(found, place, runs)
        except SeoGenError as error:
            found.problems.append(Problem(Kind.DOCUMENT, error.message.rstrip(".")))
    return found


def _runs() -> dict[str, Anchoring]:
    return {
        entry.resource_id: Anchoring(
            entry.created_at,
            (entry.details or {}).get("count"),
            (entry.details or {}).get("digest"),
            (entry.details or {}).get("document") or {},
        )
        for entry in _entries().order_by("sequence").iterator()
    }


def _about_runs(runs: dict[str, Anchoring]) -> Iterator[Problem]:
    """Compare the table with the digests: one pass, run by run."""
    found: dict[str, tuple[int, str]] = {}
    rows = AuditAnchor.objects.using(CONTROL).order_by("run").iterator()
    for run, group in groupby(rows, key=lambda row: str(row.run)):
        anchors = [Anchor.of_row(row) for row in group]
        found[run] = len(anchors), anchors_digest(anchors)
    for run, expected in runs.items():
        count, digest = found.get(run, (0, NOTHING))
        if digest != expected.digest:
            yield Problem(
                Kind.ANCHOR,
                _("the anchors that were taken at %(time)s were changed: there are %(found)d, and there were %(kept)s")
                % {"time": _shown(expected.at), "found": count, "kept": expected.count},
            )
    # But for what was committed since the entries were read.
    strangers = [run for run in found.keys() - runs.keys() if not _entries().filter(resource_id=run).exists()]
    if strangers:
        count = sum(found[run][0] for run in strangers)
        yield Problem(
            Kind.ANCHOR,
            ngettext(
                "there is %(count)d anchor that the control log knows nothing of",
                "there are %(count)d anchors that the control log knows nothing of",
                count,
            )
            % {"count": count},
        )


def _take_documents(found: Evidence, place: Place, runs: dict[str, Anchoring]) -> None:
    """Read every document once; keep the anchors of those that say something else than the control log."""
    links: dict[tuple[str, str], tuple[str, str] | None] = {}
    for kept in documents_kept(place):
        if kept.document is None:
            found.problems.append(Problem(Kind.DOCUMENT, _("%(name)s is not a document of ours") % {"name": kept.name}))
            continue
        links[kept.name, kept.sha256] = kept.document.previous
        run = runs.get(str(kept.document.run))
        if run is not None and run.digest == anchors_digest(kept.document.anchors):
            continue
        for anchor in kept.document.anchors:
            found.beyond[anchor.identity].append(anchor)
        if run is not None:
            found.problems.append(
                Problem(Kind.ANCHOR, _("anchors are not what %(name)s says of them") % {"name": kept.name})
            )
    found.documents = len(links)
    lost = [
        _("%(name)s, written at %(time)s, is missing or was changed")
        % {"name": run.document.get("name"), "time": _shown(run.at)}
        for run in runs.values()
        if run.document.get("place") == place.url
        and (str(run.document.get("name")), str(run.document.get("sha256"))) not in links
    ]
    found.problems += [Problem(Kind.DOCUMENT, text) for text in [*link_problems(links), *lost]]


def _entries() -> QuerySet[ControlAuditLog]:
    return ControlAuditLog.objects.using(CONTROL).filter(action="audit.anchor")


def _shown(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S%z}"
