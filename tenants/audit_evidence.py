"""What logs are held against: anchors in the control database and in documents, each compared with the other.

The control log's entries "audit.anchor" have the digest of each run's anchors, and the sha256 of its document.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from django.db import connections
from django.utils.translation import gettext as _

from audit.anchors import Anchor, anchors_digest
from audit.control.models import AuditAnchor, ControlAuditLog
from audit.verifying import Kind, Problem
from config.errors import SeoGenError
from tenants.anchor_documents import anchor_place, documents_kept, link_problems
from tenants.places import Place
from tenants.router import CONTROL

# Anchors that no run of the control log's took.
STRANGERS = """
SELECT count(*) FROM public.audit_anchors
 WHERE run::text NOT IN (SELECT resource_id FROM public.control_audit_logs WHERE action = 'audit.anchor')
"""


@dataclass
class Evidence:
    # How many documents there are, None where none are wanted.
    documents: int | None = None
    problems: list[Problem] = field(default_factory=list)
    # Of documents whose run the control database has not, or has otherwise: {identity: […]}.
    beyond: dict[UUID | None, list[Anchor]] = field(default_factory=lambda: defaultdict(list))

    def anchors_of(self, identity: UUID | None) -> list[Anchor]:
        """Return the anchors of a log, of the control database's own where `identity` is None."""
        rows = AuditAnchor.objects.using(CONTROL).filter(identity=identity).order_by("id")
        return [*map(Anchor.of_row, rows), *self.beyond.get(identity, [])]


def evidence_gather() -> Evidence:
    """Compare anchors, documents and the entries about both; return all of it with what does not agree."""
    found = Evidence()
    found.problems += _about_runs()
    place = anchor_place()
    if place is not None:
        try:
            _take_documents(found, place)
        except SeoGenError as error:
            found.problems.append(Problem(Kind.DOCUMENT, error.message.rstrip(".")))
    return found


def _about_runs() -> Iterator[Problem]:
    for entry in _entries():
        details = entry.details or {}
        anchors = _anchors_of_run(entry.resource_id)
        if anchors_digest(anchors) != details.get("digest"):
            yield Problem(
                Kind.ANCHOR,
                _("the anchors that were taken at %(time)s were changed: there are %(found)d, and there were %(kept)s")
                % {"time": _shown(entry.created_at), "found": len(anchors), "kept": details.get("count")},
            )
    with connections[CONTROL].cursor() as cursor:
        cursor.execute(STRANGERS)
        strangers = cursor.fetchone()[0]
    if strangers:
        yield Problem(
            Kind.ANCHOR, _("there are %(count)d anchors that the control log knows nothing of") % {"count": strangers}
        )


def _take_documents(found: Evidence, place: Place) -> None:
    """Read every document once; keep the anchors of those that say something else than the control database."""
    # Asked before the place is: a run in progress writes its document before its entry.
    wanted = list(_wanted(place))
    links: dict[tuple[str, str], tuple[str, str] | None] = {}
    for kept in documents_kept(place):
        if kept.document is None:
            found.problems.append(Problem(Kind.DOCUMENT, _("%(name)s is not a document of ours") % {"name": kept.name}))
            continue
        links[kept.name, kept.sha256] = kept.document.previous
        rows = _anchors_of_run(str(kept.document.run))
        if anchors_digest(rows) == anchors_digest(kept.document.anchors):
            continue
        for anchor in kept.document.anchors:
            found.beyond[anchor.identity].append(anchor)
        if rows:
            found.problems.append(
                Problem(Kind.ANCHOR, _("anchors are not what %(name)s says of them") % {"name": kept.name})
            )
    found.documents = len(links)
    lost = [
        _("%(name)s, written at %(time)s, is missing or was changed") % {"name": key[0], "time": _shown(written_at)}
        for key, written_at in wanted
        if key not in links
    ]
    found.problems += [Problem(Kind.DOCUMENT, text) for text in [*link_problems(links), *lost]]


def _wanted(place: Place) -> Iterator[tuple[tuple[str, str], datetime]]:
    """Yield ((name, sha256), when) of each document that the control log says was written to the place."""
    for entry in _entries():
        document = (entry.details or {}).get("document") or {}
        if document.get("place") == place.url:
            yield (str(document.get("name")), str(document.get("sha256"))), entry.created_at


def _entries() -> Iterator[ControlAuditLog]:
    entries = ControlAuditLog.objects.using(CONTROL).filter(action="audit.anchor")
    return entries.order_by("sequence").iterator()


def _anchors_of_run(run: str) -> list[Anchor]:
    try:
        number = UUID(run)
    except ValueError:
        return []
    return [Anchor.of_row(row) for row in AuditAnchor.objects.using(CONTROL).filter(run=number)]


def _shown(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S%z}"
