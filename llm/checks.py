"""System checks of the configuration; their ids are stable."""

from typing import Any

from django.core import checks
from django.utils.translation import gettext as _


@checks.register()
def allowed_hosts_are_hosts(**kwargs: Any) -> list[checks.CheckMessage]:
    """Report invalid entries of LLM_ALLOWED_HOSTS: they allow nothing, although the operator expects them to."""
    from llm.clients.base_urls import entries_unreadable  # late: all commands register checks, but few run them

    hint = _("Enter a comma-separated list of hosts (host or host:port), without a scheme or a path.")
    return [
        checks.Error(
            _("LLM_ALLOWED_HOSTS contains %(entry)s, which is not a host.") % {"entry": repr(entry)},
            hint=hint,
            id="llm.E001",
        )
        for entry in entries_unreadable()
    ]
