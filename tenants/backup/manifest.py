"""The JSON manifest beside a backup: the tenant, the software versions, and what a restore must produce."""

from __future__ import annotations

from datetime import datetime
from typing import Literal
from uuid import UUID

from django.utils.translation import gettext as _
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tenants.errors import TenantError
from tenants.files.locations import Place
from tenants.naming import ID_PATTERN

SUFFIX = ".json"
# Limit for what is read into memory; far larger than any tenant's manifest.
MAX_BYTES = 256 * 2**20
Sha256 = Field(pattern=r"^[0-9a-f]{64}$")


class InvalidManifest(TenantError):
    """The file is not a seo-gen manifest, or it is damaged."""

    code = "manifest_invalid"


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class ManifestFile(_Part):
    """A file beside the manifest, as stored: if it is encrypted, digest and size are those of the encrypted file."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    sha256: str = Sha256
    size_bytes: int = Field(ge=0)


class AuditHead(_Part):
    sequence: int = Field(ge=0)
    hash: str = Sha256


class ManifestArtifact(_Part):
    """A file in the tenant's storage that a row refers to."""

    path: str
    digest: str | None
    size_bytes: int | None


class Manifest(_Part):
    format_version: Literal[1] = 1
    tenant_id: str = Field(pattern=ID_PATTERN)
    name: str
    identity: UUID
    # The identity with which the tenant's audit chain started.
    chain_identity: UUID
    created_at: datetime
    file: ManifestFile
    # "custom" or "plain".
    format: Literal["custom", "plain"]
    # The tenant's files, as a tar file; None if not included.
    storage: ManifestFile | None = None
    # The members of a bundle, including the two files above.
    parts: list[ManifestFile] = []
    # The age recipient to which all files are encrypted; "" if they are not encrypted.
    recipient: str = ""
    # Major version of the server, and the output of `pg_dump --version`.
    server_version: int
    tools: str
    product: str
    database_prefix: str
    schema_version: str
    # ["runs.0001_initial", …], sorted.
    history: list[str]
    fingerprint: str
    # Differences between the database's schema and what its migrations create.
    drift: list[str] = []
    # Number of large objects in the database; our dumps leave them out (`tenants.schema.row_counts`).
    large_objects: int = Field(default=0, ge=0)
    audit: AuditHead
    rows: dict[str, int]
    artifacts: list[ManifestArtifact]

    def document(self) -> bytes:
        return (self.model_dump_json(indent=1) + "\n").encode()


def manifest_write(manifest: Manifest, place: Place, backup_name: str) -> None:
    """Write the manifest beside the backup with that name. Raises `PlaceError`."""
    place.write(backup_name + SUFFIX, manifest.document())


def manifest_read(content: bytes, where: str) -> Manifest:
    """Return the parsed manifest; raise `InvalidManifest` with the file's path (`where`) and the first problem."""
    try:
        return Manifest.model_validate_json(content)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "JSON"
        raise InvalidManifest(
            _("The manifest %(path)s is not valid: %(place)s: %(reason)s.")
            % {"path": where, "place": place, "reason": first["msg"]}
        ) from error
