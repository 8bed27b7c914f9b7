"""The digest of what is approved: kind, tenant and exact arguments in canonical form."""

from __future__ import annotations

import hashlib
import json
from typing import Any


def digest_of(kind: str, tenant_id: str, arguments: dict[str, Any]) -> str:
    document = {"arguments": arguments, "kind": kind, "tenant": tenant_id}
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()
