"""Anchors: records, kept apart from the logs, of where each log ended. Canonical form, digest and document format.

Each time anchors are taken, an "audit.anchor" entry in the control log holds their digest, so changes are detected.
Documents are linked: each but the first holds the name and the sha256 of the one before it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, Field

from audit.control.models import AuditAnchor
from config.base.json_text import parse_json

FORMAT = "seo-gen audit anchors 1"


class _AnchorFields(BaseModel):
    tenant: str
    identity: UUID | None
    sequence: int = Field(ge=0, lt=2**63)
    hash: str
    guards: str
    at: AwareDatetime


class _PreviousFields(BaseModel):
    name: str
    sha256: str


class _DocumentFields(BaseModel):
    format: str
    run: UUID
    previous: _PreviousFields | None
    anchors: list[_AnchorFields]


@dataclass(frozen=True)
class Anchor:
    """The end of one log at one time, with the sha256 of its guards."""

    # "" and None for the control log.
    tenant_id: str
    identity: UUID | None
    sequence: int
    hash: str
    guard_hash: str
    at: datetime

    def document(self) -> dict[str, Any]:
        """Return the anchor as a JSON object; the time is in UTC, with microsecond precision."""
        return {
            "tenant": self.tenant_id,
            "identity": str(self.identity) if self.identity else None,
            "sequence": self.sequence,
            "hash": self.hash,
            "guards": self.guard_hash,
            "at": f"{self.at.astimezone(UTC):%Y-%m-%dT%H:%M:%S.%fZ}",
        }

    @classmethod
    def of_row(cls, row: AuditAnchor) -> Anchor:
        return cls(row.tenant_id, row.identity, row.sequence, row.hash, row.guard_hash, row.created_at)


@dataclass(frozen=True)
class Document:
    """One run's anchors, as stored outside the database."""

    run: UUID
    # Name and sha256 of the document before it; None for the first one.
    previous: tuple[str, str] | None
    anchors: list[Anchor]

    def content(self) -> bytes:
        previous = {"name": self.previous[0], "sha256": self.previous[1]} if self.previous else None
        lines = [json.loads(line) for line in _lines(self.anchors)]
        document = {"format": FORMAT, "run": str(self.run), "previous": previous, "anchors": lines}
        return json.dumps(document, ensure_ascii=False, indent=1).encode() + b"\n"

    @classmethod
    def parse(cls, content: bytes) -> Document:
        """Parse a document. Raises ValueError if it is not one."""
        document = parse_json(content)
        # A lone surrogate could be neither hashed nor printed later; encoding it is a `ValueError`.
        json.dumps(document, ensure_ascii=False).encode()
        found = _DocumentFields.model_validate(document)
        if found.format != FORMAT:
            raise ValueError(found.format)
        return cls(
            run=found.run,
            previous=(found.previous.name, found.previous.sha256) if found.previous else None,
            anchors=[
                Anchor(one.tenant, one.identity, one.sequence, one.hash, one.guards, one.at) for one in found.anchors
            ],
        )


def anchors_digest(anchors: Iterable[Anchor]) -> str:
    """Return the sha256 (hex) of a run's anchors: one JSON document per line, keys and lines sorted."""
    return hashlib.sha256("\n".join(_lines(anchors)).encode()).hexdigest()


def _lines(anchors: Iterable[Anchor]) -> list[str]:
    documents = (anchor.document() for anchor in anchors)
    return sorted(json.dumps(one, sort_keys=True, ensure_ascii=False, separators=(",", ":")) for one in documents)
