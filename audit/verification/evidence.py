"""Collect the anchors to verify logs against, from the control database and from documents.

Both are compared with the control log, whose "audit.anchor" entries hold the digest of each run's
anchors, and the sha256 of its document.
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

# The digest of an empty set of anchors.
NOTHING = anchors_digest([])


@dataclass(frozen=True)
class Anchoring:
    """A run of `audit_anchor`, as recorded in the control log."""

    at: datetime
    count: object
    digest: object
    # {"place", "name", "sha256"}; {} if no document was written.
    document: dict[str, object]


@dataclass
class Evidence:
    # How many valid documents were read; None if no place for documents is set or it could not be read.
    documents: int | None = None
    problems: list[Problem] = field(default_factory=list)
    # Keyed by identity: anchors from documents whose run the control log lacks or records differently.
    beyond: dict[UUID | None, list[Anchor]] = field(default_factory=lambda: defaultdict(list))

    def anchors_of(self, identity: UUID | None) -> list[Anchor]:
        """Return the anchors of a log; `identity` None means the control log."""
        rows = AuditAnchor.objects.using(CONTROL).filter(identity=identity).order_by("id")
        return [*map(Anchor.of_row, rows), *self.beyond.get(identity, [])]


def evidence_gather() -> Evidence:
    """Compare anchors and documents with the control log's entries about them.

    Return the mismatches as problems, and the anchors in documents that the control log does not confirm. Raises
    `PlaceError` if AUDIT_ANCHOR_OUTPUT is invalid; a place that cannot be read is a problem.
    """
    # Read the entries before the documents, because a run writes its document before its entry.
    runs = _runs()
    found = Evidence(problems=list(_about_runs(runs)))
    place = anchor_place()
    if place is not None:
        try:
            _take_documents(found, place, runs)
        except SeoGenError as error:
            found.problems.append(Problem(Kind.DOCUMENT, error.message))
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
    """Yield a problem for each run whose anchors do not match its digest, and one if anchors have no recorded run."""
    found: dict[str, tuple[int, str]] = {}
    rows = AuditAnchor.objects.using(CONTROL).order_by("run").iterator()
    for run, group in groupby(rows, key=lambda row: str(row.run)):
        anchors = [Anchor.of_row(row) for row in group]
        found[run] = len(anchors), anchors_digest(anchors)
    for run, expected in runs.items():
        count, digest = found.get(run, (0, NOTHING))
        if digest != expected.digest:
            if isinstance(expected.count, int) and count != expected.count:
                text = _(
                    "The anchors recorded at %(time)s do not match their digest in the control log. Anchors recorded:"
                    " %(kept)d; found: %(found)d."
                )
            else:
                text = _("The anchors recorded at %(time)s do not match their digest in the control log.")
            values = {"time": _shown(expected.at), "found": count, "kept": expected.count}
            yield Problem(Kind.ANCHOR, text % values)
    # Ignore runs that were committed after the entries were read.
    strangers = [run for run in found.keys() - runs.keys() if not _entries().filter(resource_id=run).exists()]
    if strangers:
        count = sum(found[run][0] for run in strangers)
        yield Problem(
            Kind.ANCHOR,
            ngettext(
                "%(count)d anchor is not recorded in the control log.",
                "%(count)d anchors are not recorded in the control log.",
                count,
            )
            % {"count": count},
        )


def _take_documents(found: Evidence, place: Place, runs: dict[str, Anchoring]) -> None:
    """Read every document once; add problems to `found`, and the anchors that the control log does not confirm."""
    links: dict[tuple[str, str], tuple[str, str] | None] = {}
    for kept in documents_kept(place):
        if kept.document is None:
            found.problems.append(
                Problem(Kind.DOCUMENT, _("%(name)s is not a valid anchor document.") % {"name": kept.name})
            )
            continue
        links[kept.name, kept.sha256] = kept.document.previous
        run = runs.get(str(kept.document.run))
        if run is not None and run.digest == anchors_digest(kept.document.anchors):
            continue
        for anchor in kept.document.anchors:
            found.beyond[anchor.identity].append(anchor)
        if run is not None:
            found.problems.append(
                Problem(
                    Kind.ANCHOR,
                    _("The anchors in %(name)s do not match their digest in the control log.") % {"name": kept.name},
                )
            )
    found.documents = len(links)
    lost = [
        _("%(name)s, written at %(time)s, is missing or was changed.")
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
