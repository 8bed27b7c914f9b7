"""JSON documents as people read them: a list of labels and values, whose nested documents are indented."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from datetime import datetime
from typing import Any

from django.core.serializers.json import DjangoJSONEncoder
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.text import capfirst
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from config.base.output import size
from config.base.times import lasting, to_second

# A longer list is closed at first.
OPEN_MAX = 10
# What is nested more deeply is shown as JSON.
LEVELS_MAX = 10
LABELS = {
    "adopted": gettext_lazy("output of an earlier attempt"),
    "artifacts": gettext_lazy("artifacts"),
    "attempt": gettext_lazy("attempt"),
    "audit": gettext_lazy("head of the audit log"),
    "batch": gettext_lazy("batch"),
    "chain_identity": gettext_lazy("identity at the start of the audit log"),
    "changed_runs": gettext_lazy("runs whose status differs"),
    "changes": gettext_lazy("changes"),
    "characters": gettext_lazy("characters"),
    "count": gettext_lazy("count"),
    "created_at": gettext_lazy("created"),
    "database_prefix": gettext_lazy("prefix of the database's name"),
    "default": gettext_lazy("default"),
    "description": gettext_lazy("description"),
    "digest": gettext_lazy("digest"),
    "drift": gettext_lazy("drift"),
    "failed_runs": gettext_lazy("runs in progress, marked as failed"),
    "fields": gettext_lazy("changed fields"),
    "file": gettext_lazy("file"),
    "fingerprint": gettext_lazy("fingerprint of the schema"),
    "finish_reason": gettext_lazy("finish reason"),
    "format": gettext_lazy("format"),
    "format_version": gettext_lazy("version of the format"),
    "from": gettext_lazy("from"),
    "hash": gettext_lazy("hash"),
    "history": gettext_lazy("applied migrations"),
    "identity": gettext_lazy("identity"),
    "input_tokens": gettext_lazy("input tokens"),
    "is_truncated": gettext_lazy("truncated"),
    "kept": gettext_lazy("replaced database"),
    "kept_until": gettext_lazy("kept until"),
    "large_objects": gettext_lazy("large objects"),
    "llm_seconds": gettext_lazy("duration of the call"),
    "lost_runs": gettext_lazy("lost runs (newer than the restored state)"),
    "migrations": gettext_lazy("migrations"),
    "missing_files": gettext_lazy("missing or changed files"),
    "model": gettext_lazy("model"),
    "name": gettext_lazy("name"),
    "new": gettext_lazy("new"),
    "old": gettext_lazy("old"),
    "operation_id": gettext_lazy("operation"),
    "orphans": gettext_lazy("orphaned files"),
    "output": gettext_lazy("output"),
    "output_tokens": gettext_lazy("output tokens"),
    "parts": gettext_lazy("parts"),
    "path": gettext_lazy("path"),
    "place": gettext_lazy("place"),
    "prices": gettext_lazy("prices"),
    "problems": gettext_lazy("problems"),
    "product": gettext_lazy("release"),
    "prompts": gettext_lazy("prompts"),
    "provider": gettext_lazy("provider"),
    "reason": gettext_lazy("reason"),
    "recipient": gettext_lazy("encrypted to"),
    "replaced_at": gettext_lazy("replaced"),
    "replaced_by": gettext_lazy("replaced by"),
    "replaces": gettext_lazy("replaces"),
    "required": gettext_lazy("required"),
    "restored_files": gettext_lazy("restored files"),
    "returned_runs": gettext_lazy("runs that came back"),
    "counts": gettext_lazy("counts"),
    "rows": gettext_lazy("rows"),
    "run_id": gettext_lazy("run"),
    "schema_version": gettext_lazy("schema version"),
    "seconds": gettext_lazy("duration"),
    "sequence": gettext_lazy("sequence"),
    "server": gettext_lazy("server"),
    "server_version": gettext_lazy("version of PostgreSQL"),
    "sha256": gettext_lazy("digest"),
    "size_bytes": gettext_lazy("size"),
    "source": gettext_lazy("source"),
    "stale_messages": gettext_lazy("removed wake-ups"),
    "status": gettext_lazy("status"),
    "step": gettext_lazy("step"),
    "storage": gettext_lazy("storage"),
    "tenant": gettext_lazy("tenant"),
    "tenant_id": gettext_lazy("tenant"),
    "tenants": gettext_lazy("tenants"),
    "to": gettext_lazy("to"),
    "tools": gettext_lazy("version of pg_dump"),
    "type": gettext_lazy("type"),
    "unavailable_ms": gettext_lazy("tenant closed for"),
    "valid_from": gettext_lazy("valid from"),
    "values": gettext_lazy("values"),
    "version": gettext_lazy("version"),
    "worker": gettext_lazy("worker"),
}
Label = Callable[[str], str]


def label_of(key: str) -> str:
    """Return the words for a key that our services write; any other key is returned unchanged."""
    return str(LABELS.get(key, key))


def as_document(
    document: object, *, label: Label = label_of, has_raw: bool = False, hidden: Collection[str] = ()
) -> SafeString | None:
    """Return a JSON document as a list of labels and values; None (shown as "-") if there is nothing to show.

    `label` returns a key in words. With `has_raw`, the JSON itself follows, closed at first. The keys in `hidden` are
    those that the page shows elsewhere.
    """
    if document in (None, {}, []):
        return None
    listed = document
    if isinstance(document, Mapping):
        listed = {key: value for key, value in document.items() if key not in hidden}
    shown = SafeString("") if listed == {} else _shown("", listed, label, LEVELS_MAX)
    if not has_raw or not isinstance(document, (dict, list)):
        return shown or None
    code = format_html('<pre class="seo-gen-code" x-ignore>{}</pre>', _as_json(document))
    return format_html("{}{}", shown, _closed(_("Raw data"), code))


def _shown(key: str, value: object, label: Label, levels: int) -> SafeString:
    if levels == 0 and isinstance(value, (dict, list)):
        return format_html('<bdi class="seo-gen-value">{}</bdi>', json.dumps(value, ensure_ascii=False))
    if isinstance(value, Mapping) and value:
        rows = ((_named(str(name), label), _shown(str(name), one, label, levels - 1)) for name, one in value.items())
        return format_html('<dl class="seo-gen-document">{}</dl>', format_html_join("", "<dt>{}</dt><dd>{}</dd>", rows))
    if isinstance(value, list) and value:
        rows_of = ((_shown(key, one, label, levels - 1),) for one in value)
        listed = format_html('<ul class="seo-gen-document">{}</ul>', format_html_join("", "<li>{}</li>", rows_of))
        if len(value) <= OPEN_MAX:
            return listed
        return _closed(ngettext("%(n)d entry", "%(n)d entries", len(value)) % {"n": len(value)}, listed)
    # Names and texts of other people do not affect the direction of the text around them.
    return format_html('<bdi class="seo-gen-value">{}</bdi>', _in_words(key, value))


def _as_json(document: object) -> str:
    """Return the document as JSON, indented unless it is nested too deeply for Python's encoder."""
    with suppress(RecursionError):
        return json.dumps(document, cls=DjangoJSONEncoder, ensure_ascii=False, indent=2)
    return json.dumps(document, cls=DjangoJSONEncoder, ensure_ascii=False)


def _named(key: str, label: Label) -> SafeString:
    words = label(key)
    return format_html("{}", capfirst(words)) if words != key or key in LABELS else format_html("<bdi>{}</bdi>", key)


def _in_words(key: str, value: Any) -> str:
    """Return one value as people read it. The key's ending identifies sizes, durations and times."""
    if value is None or value in ("", [], {}):
        return _("none")
    if isinstance(value, bool):
        return _("yes") if value else _("no")
    if isinstance(value, (int, float)):
        # A customer's key may end like one of ours, with a number that is no size or duration.
        with suppress(OverflowError, ValueError):
            return _number(key, value)
    if isinstance(value, str) and key.endswith(("_at", "_until")):
        # What is not a time, has no zone, or is out of range in ours, is shown as it is.
        with suppress(ValueError, OverflowError):
            at = datetime.fromisoformat(value)
            return to_second(at) if at.tzinfo else value
    return str(value)


def _number(key: str, number: float) -> str:
    if number >= 0 and key.endswith("_bytes"):
        return size(int(number))
    if number >= 0 and key.endswith("_ms"):
        return _("%(ms)d ms") % {"ms": number}
    if number >= 0 and (key == "seconds" or key.endswith("_seconds")):
        return lasting(number)
    # A number of a customer, such as a year, is shown as it is.
    return f"{number:,}" if key in LABELS else str(number)


def _closed(title: str, content: SafeString) -> SafeString:
    return format_html('<details class="seo-gen-closed"><summary>{}</summary>{}</details>', title, content)
