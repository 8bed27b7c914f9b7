"""Check that a server has the base database, and that its administrator has the needed rights and is no superuser."""

from __future__ import annotations

from django.utils.translation import gettext as _

from tenants.servers.session import FOR_RECOVERY, RESERVED, ServerSession


def rights_problems(server_session: ServerSession) -> list[str]:
    """Return a sentence for each problem: a right that the administrator lacks, no base database, superuser rights."""
    problems = [
        _(
            "Its administrator lacks %(right)s. As a superuser, run in the database of the administrator's URL:"
            " %(statement)s"
        )
        % {"right": missing.right, "statement": missing.statement}
        for missing in [*server_session.missing_needed(), *server_session.missing_rights([RESERVED, *FOR_RECOVERY])]
    ]
    if not server_session.has_base():
        problems.append(
            _(
                "Database seo_gen_base is missing or not a closed template, so a new tenant's role may be able to use"
                " up the server's locks. Run config/stack/roles.sql again."
            )
        )
    if server_session.is_superuser():
        problems.append(
            _("Its administrator is a superuser. Use a role that is not one; docs/configuration.md shows how.")
        )
    return problems
