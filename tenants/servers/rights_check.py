"""Whether the administrator of a server may do what the product does there, and no more, in sentences for operators."""

from __future__ import annotations

from django.utils.translation import gettext as _

from tenants.servers.session import FOR_RECOVERY, RESERVED, ServerSession


def rights_problems(server_session: ServerSession) -> list[str]:
    """Return one sentence for each right that the server's administrator lacks, or has too much."""
    problems = [
        _("Its administrator lacks %(right)s; as its superuser, run: %(statement)s")
        % {"right": missing.right, "statement": missing.statement}
        for missing in [*server_session.missing_needed(), *server_session.missing_rights([RESERVED, *FOR_RECOVERY])]
    ]
    if not server_session.has_base():
        problems.append(
            _(
                "It lacks database seo_gen_base, so a tenant's role can use up its locks: run config/stack/roles.sql"
                " again."
            )
        )
    if server_session.is_superuser():
        problems.append(
            _("Its administrator is a superuser. Give it one that is not; docs/configuration.md shows how to make it.")
        )
    return problems
