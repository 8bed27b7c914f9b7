"""Say why a provider ended a reply."""

from __future__ import annotations

from django.utils.translation import gettext as _

from llm.types import TRUNCATED

# Words for the same reason, in lower case: compatible servers differ in case (`llm.clients`).
COMPLETE = frozenset({"stop", "end_turn", "eos", "eos_token"})
FILTERED = frozenset({"content_filter", "safety", "prohibited_content", "blocklist", "spii", "recitation"})


def finish_text(reason: str | None) -> str:
    """Return a finish reason in words: "" for None, and the provider's own word for a reason that we do not know."""
    known = (reason or "").lower()
    if known in COMPLETE:
        return _("output complete")
    if known in TRUNCATED:
        return _("output truncated at a limit")
    if known in FILTERED:
        return _("stopped by the provider's filter")
    if known == "stop_sequence":
        return _("stop sequence reached")
    return _("refused by the model") if known == "refusal" else reason or ""
