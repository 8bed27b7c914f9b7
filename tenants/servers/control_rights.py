"""Rights of the control database's two roles: the owner, which migrates it, and the application's."""

from __future__ import annotations

from django.conf import settings
from django.db import connections
from django.db.backends.postgresql.psycopg_any import sql
from django.utils.translation import gettext as _

from config.base.databases import CONTROL
from tenants.errors import ServerError

OWNER = "control-owner"
# Run as the owner: whether the application's role (a parameter) has what config/stack/roles.sql grants. Privileges on
# tables of future migrations come from the owner's default privileges.
GRANTED = """
SELECT pg_catalog.has_schema_privilege(current_user, 'public', 'CREATE'),
       pg_catalog.has_database_privilege(%(app)s, pg_catalog.current_database(), 'CONNECT'),
       pg_catalog.has_schema_privilege(%(app)s, 'public', 'USAGE'),
       (SELECT count(DISTINCT item.privilege_type) = 4
          FROM pg_catalog.pg_default_acl AS d, pg_catalog.aclexplode(d.defaclacl) AS item
         WHERE d.defaclobjtype = 'r' AND pg_catalog.pg_get_userbyid(d.defaclrole) = current_user
           AND pg_catalog.pg_get_userbyid(item.grantee) = %(app)s
           AND item.privilege_type IN ('SELECT', 'INSERT', 'UPDATE', 'DELETE')),
       (SELECT count(DISTINCT item.privilege_type) = 2
          FROM pg_catalog.pg_default_acl AS d, pg_catalog.aclexplode(d.defaclacl) AS item
         WHERE d.defaclobjtype = 'S' AND pg_catalog.pg_get_userbyid(d.defaclrole) = current_user
           AND pg_catalog.pg_get_userbyid(item.grantee) = %(app)s
           AND item.privilege_type IN ('SELECT', 'USAGE'))
"""
RESERVED_ROLE = "pg_use_reserved_connections"
# The roles, of those given as a parameter, that are not allowed to use reserved connections.
SHUT_OUT = f"""
SELECT r.rolname
  FROM pg_catalog.pg_roles AS r JOIN pg_catalog.pg_roles AS reserved ON reserved.rolname = '{RESERVED_ROLE}'
 WHERE r.rolname = ANY(%(roles)s) AND NOT pg_catalog.pg_has_role(r.oid, reserved.oid, 'USAGE')
 ORDER BY r.rolname
"""
# In the order of the columns of GRANTED.
STATEMENTS = (
    "GRANT CREATE ON SCHEMA public TO {owner}",
    "GRANT CONNECT ON DATABASE {database} TO {app}",
    "GRANT USAGE ON SCHEMA public TO {app}",
    "ALTER DEFAULT PRIVILEGES FOR ROLE {owner} GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO {app}",
    "ALTER DEFAULT PRIVILEGES FOR ROLE {owner} GRANT USAGE, SELECT ON SEQUENCES TO {app}",
)


def control_rights_missing() -> list[str]:
    """Return the statements that grant what the control database's roles lack.

    Returns [] if nothing is missing, or if one role does everything.
    """
    if OWNER not in connections:
        return []
    names = {
        "owner": connections[OWNER].settings_dict["USER"],
        "app": connections[CONTROL].settings_dict["USER"],
        "database": connections[OWNER].settings_dict["NAME"],
    }
    with connections[OWNER].cursor() as cursor:
        cursor.execute(GRANTED, {"app": names["app"]})
        found = cursor.fetchone()
    identifiers = {name: sql.Identifier(value) for name, value in names.items()}
    return [
        sql.SQL(statement).format(**identifiers).as_string(connections[OWNER].connection)
        for statement, granted in zip(STATEMENTS, found, strict=True)
        if not granted
    ]


def control_rights_problems() -> list[str]:
    """Return a sentence for each role of the control database that is not allowed to use reserved connections.

    This is only a warning: such a role is shut out only while all other connections are in use. PostgreSQL 15 has no
    such right, so nothing is reported.
    """
    roles = {connections[alias].settings_dict["USER"] for alias in (CONTROL, OWNER) if alias in connections}
    with connections[CONTROL].cursor() as cursor:
        cursor.execute(SHUT_OUT, {"roles": sorted(roles)})
        found = [role for (role,) in cursor.fetchall()]
    return [
        _("Role %(role)s of the control database lacks %(right)s. As a superuser, run: %(statement)s")
        % {
            "role": role,
            "right": RESERVED_ROLE,
            "statement": sql.SQL("GRANT {} TO {};")
            .format(sql.Identifier(RESERVED_ROLE), sql.Identifier(role))
            .as_string(connections[CONTROL].connection),
        }
        for role in found
    ]


def control_rights_require() -> None:
    """Raise `ServerError`, with the statements to run, if the control database's roles lack a right."""
    missing = control_rights_missing()
    if missing:
        raise ServerError(
            _("The roles of the control database %(name)s lack %(count)d of the rights that they need.")
            % {"name": settings.DATABASES[CONTROL]["NAME"], "count": len(missing)},
            hint=_("As a superuser, run in that database: %(statements)s;") % {"statements": "; ".join(missing)},
            code="control_rights_missing",
        )
