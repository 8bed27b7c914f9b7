"""What stands beside a backup, as JSON: whose it is, of which version, and what must come out of it again."""

from __future__ import annotations

from datetime import datetime
from typing import Literal
from uuid import UUID

from django.utils.translation import gettext as _
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tenants.errors import TenantError
from tenants.naming import ID_PATTERN

SUFFIX = ".json"
# Of what is read into memory: far more than any tenant's.
MAX_BYTES = 256 * 2**20
Sha256 = Field(pattern=r"^[0-9a-f]{64}$")


class InvalidManifest(TenantError):
    """A manifest is not one of ours, or was damaged."""

    code = "manifest_invalid"


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class ManifestFile(_Part):
    """A file beside the manifest, as it is stored (encrypted, where it is)."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    sha256: str = Sha256
    size_bytes: int = Field(ge=0)


class AuditHead(_Part):
    sequence: int = Field(ge=0)
    hash: str = Sha256


class ManifestArtifact(_Part):
    """A file in the tenant's storage that some row refers to."""

    path: str
    digest: str | None
    size_bytes: int | None


class Manifest(_Part):
    format_version: Literal[1] = 1
    tenant_id: str = Field(pattern=ID_PATTERN)
    name: str
    identity: UUID
    # The identity that its audit chain began with.
    chain_identity: UUID
    created_at: datetime
    file: ManifestFile
    # "custom" or "plain".
    format: Literal["custom", "plain"]
    # The tenant's files, as a tar archive; None where they were not asked for.
    storage: ManifestFile | None = None
    # Of a bundle: its members, those two included.
    parts: list[ManifestFile] = []
    # The age recipient that all of it is encrypted to, "" where it is not.
    recipient: str = ""
    # Major version of the server, and what the tools call themselves.
    server_version: int
    tools: str
    product: str
    database_prefix: str
    schema_version: str
    # ["runs.0001_initial", …], sorted.
    history: list[str]
    fingerprint: str
    # In which points its schema differed from what its history makes.
    drift: list[str] = []
    # How many large objects its database held, which no dump of ours takes along (`tenants.schema.row_counts`).
    large_objects: int = Field(default=0, ge=0)
    audit: AuditHead
    rows: dict[str, int]
    artifacts: list[ManifestArtifact]

    def document(self) -> bytes:
        return (self.model_dump_json(indent=1) + "\n").encode()


def manifest_read(content: bytes, where: str) -> Manifest:
    """Return the manifest; raise `InvalidManifest`, which names `where` it is and what is wrong first."""
    try:
        return Manifest.model_validate_json(content)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "JSON"
        raise InvalidManifest(
            _("The manifest %(path)s is not valid: %(place)s: %(reason)s.")
            % {"path": where, "place": place, "reason": first["msg"]}
        ) from error
