"""Read a log's guards from the catalog, and compare them with the expected ones.

The guards are triggers, their functions, owners, privileges, rules, policies, columns, constraints and child tables. A
login's power to become the owner, or to change a table by way of another role, is read as an (unexpected) guard too.

Role names differ between installations: "owner" stands for the expected owner, and "application" for the role (or the
tenants' group) that the application uses; any other role is shown under its own name. PostgreSQL 15 to 18 all produce
the same text, so the expected guards are a constant (`audit.verification.expected_guards`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from django.conf import settings
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.utils.translation import gettext as _

from audit.log.safe_search_path import catalog_only
from audit.verification.expected_guards import EXPECTED

# {"trigger prevent_audit_log_modification on audit_logs": "before delete update for each row …", …}
Guards = dict[str, str]

TABLES: Mapping[str, Sequence[str]] = {
    "tenant": ("audit_logs", "audit_chain_heads"),
    "control": ("control_audit_logs", "control_audit_chain_heads"),
    "archive": ("audit_archives", "archived_audit_logs"),
    "anchors": ("audit_anchors",),
    "ledger": ("erasures",),
}
CONTROL = "default"
# The alias of the role that migrates the control database (config/settings.py), if it is set.
CONTROL_OWNER = "control-owner"

# Bits of tgtype: PostgreSQL's pg_trigger.h. Constraints of kind "n" (NOT NULL, since 18) are read with the columns.
READ = r"""
WITH role (oid, name) AS (
    SELECT 0::oid, 'PUBLIC'
    UNION ALL
    SELECT oid, CASE WHEN rolname = %(application)s THEN 'application' WHEN rolname = %(owner)s THEN 'owner'
                     ELSE 'role ' || rolname END
      FROM pg_catalog.pg_roles
), guarded AS (
    SELECT * FROM pg_catalog.pg_class WHERE relname = ANY (%(tables)s) AND relnamespace = 'public'::regnamespace
), trigger AS (
    SELECT pg_trigger.*, guarded.relname
      FROM pg_catalog.pg_trigger JOIN guarded ON guarded.oid = tgrelid WHERE NOT tgisinternal
), function AS (
    SELECT * FROM pg_catalog.pg_proc WHERE oid IN (SELECT tgfoid FROM trigger)
)
SELECT 'table ' || relname,
       concat_ws(', ', 'owner: ' || role.name, 'kind ' || relkind::text, 'persistence ' || relpersistence::text,
                 CASE WHEN relrowsecurity THEN 'row security' END, CASE WHEN relforcerowsecurity THEN 'forced' END)
  FROM guarded LEFT JOIN role ON role.oid = relowner
UNION ALL
SELECT format('privileges of %%s on %%s', role.name, relname),
       string_agg(privilege_type || CASE WHEN is_grantable THEN ' with grant option' ELSE '' END, ', '
                  ORDER BY privilege_type COLLATE "C")
  FROM guarded CROSS JOIN LATERAL aclexplode(relacl) AS acl JOIN role ON role.oid = grantee
 WHERE grantee <> relowner
 GROUP BY role.name, relname
UNION ALL
SELECT format('privileges of %%s on column %%s.%%s', role.name, relname, attname),
       string_agg(privilege_type, ', ' ORDER BY privilege_type COLLATE "C")
  FROM guarded JOIN pg_catalog.pg_attribute ON attrelid = guarded.oid
 CROSS JOIN LATERAL aclexplode(attacl) AS acl JOIN role ON role.oid = grantee
 WHERE NOT attisdropped
 GROUP BY role.name, relname, attname
UNION ALL
SELECT format('column %%s.%%s', relname, attname),
       concat_ws(' ', format_type(atttypid, atttypmod), CASE WHEN attnotnull THEN 'not null' END,
                 'generated ' || nullif(attgenerated::text, ''))
  FROM guarded JOIN pg_catalog.pg_attribute ON attrelid = guarded.oid
 WHERE attnum > 0 AND NOT attisdropped
UNION ALL
SELECT format('constraint %%s on %%s', pg_get_constraintdef(pg_constraint.oid), relname), ''
  FROM guarded JOIN pg_catalog.pg_constraint ON conrelid = guarded.oid
 WHERE contype IN ('c', 'f', 'p', 'u', 'x')
UNION ALL
SELECT format('trigger %%s on %%s', tgname, relname),
       concat_ws(' ', CASE WHEN tgtype & 2 > 0 THEN 'before' WHEN tgtype & 64 > 0 THEN 'instead of' ELSE 'after' END,
                 CASE WHEN tgtype & 4 > 0 THEN 'insert' END, CASE WHEN tgtype & 8 > 0 THEN 'delete' END,
                 CASE WHEN tgtype & 16 > 0 THEN 'update' END, CASE WHEN tgtype & 32 > 0 THEN 'truncate' END,
                 CASE WHEN tgtype & 1 > 0 THEN 'for each row' ELSE 'for each statement' END,
                 'calls ' || pronamespace::regnamespace || '.' || proname,
                 'with ' || nullif(replace(encode(tgargs, 'escape'), '\000', ''), ''),
                 'of columns ' || nullif(tgattr::text, ''),
                 CASE WHEN tgqual IS NOT NULL THEN 'on a condition' END)
  FROM trigger JOIN pg_catalog.pg_proc ON pg_proc.oid = tgfoid
UNION ALL
SELECT format('firing of trigger %%s on %%s', tgname, relname),
       CASE tgenabled WHEN 'A' THEN 'always' WHEN 'O' THEN 'not for replicas' WHEN 'R' THEN 'only for replicas'
                      ELSE 'disabled' END
  FROM trigger
UNION ALL
SELECT format('function %%s.%%s', pronamespace::regnamespace, proname),
       concat_ws(', ', 'owner: ' || role.name, lanname, CASE WHEN prosecdef THEN 'security definer' END,
                 array_to_string(proconfig, ', '), 'sha256 ' || encode(sha256(convert_to(prosrc, 'UTF8')), 'hex'))
  FROM function JOIN pg_catalog.pg_language ON pg_language.oid = prolang LEFT JOIN role ON role.oid = proowner
UNION ALL
SELECT format('privileges of %%s on function %%s', role.name, proname), string_agg(privilege_type, ', ')
  FROM function CROSS JOIN LATERAL aclexplode(coalesce(proacl, acldefault('f', proowner))) AS acl
  JOIN role ON role.oid = grantee
 WHERE prosecdef AND grantee <> proowner
 GROUP BY role.name, proname
UNION ALL
SELECT format('rule %%s on %%s', rulename, relname), pg_get_ruledef(pg_rewrite.oid)
  FROM guarded JOIN pg_catalog.pg_rewrite ON ev_class = guarded.oid
UNION ALL
SELECT format('policy %%s on %%s', polname, relname), ''
  FROM guarded JOIN pg_catalog.pg_policy ON polrelid = guarded.oid
UNION ALL
SELECT format('table %%s, which inherits from %%s', child.relname, guarded.relname), ''
  FROM guarded JOIN pg_catalog.pg_inherits ON inhparent = guarded.oid
  JOIN pg_catalog.pg_class AS child ON child.oid = inhrelid
UNION ALL
SELECT format('power of role %%s to become the owner', member.rolname), ''
  FROM pg_catalog.pg_roles AS member, pg_catalog.pg_roles AS owner
 WHERE member.rolname = ANY (%(logins)s) AND owner.rolname = %(owner)s AND pg_has_role(member.oid, owner.oid, 'MEMBER')
UNION ALL
SELECT format('power of role %%s to change %%s by way of another role', login.rolname, relname), ''
  FROM guarded CROSS JOIN pg_catalog.pg_roles AS login
 WHERE login.rolname = ANY (%(logins)s) AND login.rolname <> %(owner)s AND NOT login.rolsuper
   AND has_table_privilege(login.oid, guarded.oid, 'UPDATE, DELETE, TRUNCATE, TRIGGER')
   AND NOT EXISTS (SELECT FROM aclexplode(relacl) AS acl
                    WHERE acl.grantee <> relowner AND privilege_type IN ('UPDATE', 'DELETE', 'TRUNCATE', 'TRIGGER'))
   AND NOT EXISTS (SELECT FROM pg_catalog.pg_roles AS owner
                    WHERE owner.oid = relowner AND pg_has_role(login.oid, owner.oid, 'MEMBER'))
"""


@dataclass(frozen=True)
class LogRoles:
    """The roles of a database that own and write its audit log."""

    # Owns the tables.
    owner: str
    # The role whose privileges the application has, and the roles that it logs in as.
    application: str
    logins: Sequence[str]


def control_roles() -> LogRoles:
    """Return the roles of the control database's logs.

    Their owner is the role that is configured to migrate the database or, if none is, the owner of the database.
    """
    connection = connections[CONTROL]
    owner = settings.DATABASES.get(CONTROL_OWNER, {}).get("USER")
    with catalog_only(connection), connection.cursor() as cursor:
        cursor.execute(
            "SELECT current_user, pg_get_userbyid(datdba) FROM pg_catalog.pg_database"
            " WHERE datname = current_database()"
        )
        application, database_owner = cursor.fetchone()
    return LogRoles(str(owner or database_owner), application, (application,))


def guards_read(connection: BaseDatabaseWrapper, kind: str, roles: LogRoles) -> Guards:
    """Return the guards of the tables of this kind of log (see TABLES)."""
    with catalog_only(connection), connection.cursor() as cursor:
        cursor.execute(
            READ,
            {
                "tables": list(TABLES[kind]),
                "owner": roles.owner,
                "application": roles.application,
                "logins": list(roles.logins),
            },
        )
        return dict(cursor.fetchall())


def guards_hash(guards: Guards) -> str:
    """Return the sha256 (hex) of a log's guards."""
    form = json.dumps(guards, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(form.encode()).hexdigest()


def guard_problems(kind: str, found: Guards) -> list[str]:
    """Return one sentence for each guard that is missing, changed or unexpected; [] if there are none."""
    return sorted(_problems(EXPECTED[kind], found))


def _problems(expected: Mapping[str, str], found: Mapping[str, str]) -> Iterator[str]:
    for name in expected.keys() - found.keys():
        if not name.startswith("firing of "):  # its trigger is reported as missing
            yield _("%(object)s is missing.") % {"object": name}
    for name in found.keys() - expected.keys():
        if not name.startswith("firing of "):
            text = _("%(object)s should not exist (%(is)s).") if found[name] else _("%(object)s should not exist.")
            yield text % {"object": name, "is": found[name]}
    for name in expected.keys() & found.keys():
        if expected[name] == found[name]:
            continue
        if name.startswith("firing of ") and found[name] == "disabled":
            yield _("%(object)s is disabled.") % {"object": name.removeprefix("firing of ")}
        else:
            yield _("%(object)s: “%(is)s” instead of “%(must)s”.") % {
                "object": name,
                "is": found[name],
                "must": expected[name],
            }
