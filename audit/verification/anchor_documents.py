"""Anchors outside the control database: one document per run, linked to the one before, in AUDIT_ANCHOR_OUTPUT."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

from django.conf import settings
from django.utils.translation import gettext as _

from audit.verification.anchors import Anchor, Document
from tenants.files.locations import Place, place_at

PREFIX = "audit-anchors-"


@dataclass(frozen=True)
class Kept:
    """A stored version of a document in AUDIT_ANCHOR_OUTPUT."""

    name: str
    sha256: str
    # None if it is not an anchor document.
    document: Document | None


def anchor_place() -> Place | None:
    """Return where documents are written, or None if AUDIT_ANCHOR_OUTPUT is not set. Raises `PlaceError`."""
    return place_at(settings.AUDIT_ANCHOR_OUTPUT) if settings.AUDIT_ANCHOR_OUTPUT else None


def document_write(place: Place, run: UUID, at: datetime, anchors: list[Anchor]) -> dict[str, object]:
    """Write the run's document, linked to the newest one in `place`; return {"place", "name", "sha256"}.

    Call this before the run is committed: a document is valid evidence even if its run is not recorded. Raises
    `PlaceError`.
    """
    name = f"{PREFIX}{at.astimezone(UTC):%Y%m%dT%H%M%S%fZ}-{str(run)[:8]}.json"
    content = Document(run, _newest(place), anchors).content()
    days = settings.AUDIT_ANCHOR_LOCK_DAYS
    place.write_locked(name, content, at + timedelta(days=days) if days else None)
    return {"place": place.url, "name": name, "sha256": _sha256(content)}


def documents_kept(place: Place) -> Iterator[Kept]:
    """Yield every stored version of every document in `place`. Raises `PlaceError`."""
    for name, content in place.versions(PREFIX):
        try:
            document = Document.parse(content)
        except ValueError:
            document = None
        yield Kept(name, _sha256(content), document)


def link_problems(links: dict[tuple[str, str], tuple[str, str] | None]) -> Iterator[str]:
    """Yield a sentence for each document whose predecessor is missing, was changed, or is not named.

    `links` maps a document's (name, sha256) to its predecessor's, or to None. The first document needs no predecessor.
    """
    for (name, _digest), previous in sorted(links.items()):
        if previous is not None and previous not in links:
            yield _("%(name)s follows %(previous)s, which is missing or was changed.") % {
                "name": name,
                "previous": previous[0],
            }
    first = sorted(name for (name, _digest), previous in links.items() if previous is None)
    for name in first[1:]:
        yield _("%(name)s is not linked to an older document, although there are other documents.") % {"name": name}


def _newest(place: Place) -> tuple[str, str] | None:
    name = max(place.names(PREFIX), default=None)
    return (name, _sha256(place.read(name))) if name else None


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
