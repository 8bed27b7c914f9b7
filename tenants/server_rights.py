"""Whether the administrator of a server may do what the product does there, in sentences for operators."""

from __future__ import annotations

from django.utils.translation import gettext as _

from tenants.cluster import Cluster


def rights_problems(cluster: Cluster) -> list[str]:
    """Return one sentence for each right that the server's administrator lacks, or has too much."""
    missing, name = cluster.missing_rights(), cluster.server.name
    return [
        *(
            _("The administrator of database server %(name)s needs a right: as a superuser, run there: %(statement)s;")
            % {"name": name, "statement": statement}
            for statement in missing.needed
        ),
        *(
            _(
                "Point-in-time recovery of database server %(name)s needs a right: as a superuser, run there:"
                " %(statement)s;"
            )
            % {"name": name, "statement": statement}
            for statement in missing.for_recovery
        ),
        *(
            _(
                "The administrator of database server %(name)s is a superuser. Give the server one that is not, as"
                " docs/configuration.md shows."
            )
            % {"name": name}
            for _statement in missing.excessive
        ),
    ]
