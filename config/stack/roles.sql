-- The roles that seo-gen works with, and its control database. The embedded stack runs this file, and so do the tests.
--
-- Run it with psql as a superuser, connected to the database `postgres`; running it again changes nothing:
--
--     psql -X -v ON_ERROR_STOP=1 -f config/stack/roles.sql postgresql://postgres@db.example.com/postgres
--
-- On a further server that holds tenants, but not the control database, add `-v tenants_only=1`. The file sets no
-- passwords: give each role one afterwards with psql's \password.

-- The administrator: it creates and drops tenants' databases and roles, and connects to none of these databases.
SELECT 'CREATE ROLE seo_gen_admin' WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'seo_gen_admin') \gexec
ALTER ROLE seo_gen_admin LOGIN NOSUPERUSER NOBYPASSRLS CREATEDB CREATEROLE;
-- To end the sessions in a database that is swapped or dropped, and to see which of them are in a transaction.
GRANT pg_signal_backend, pg_monitor TO seo_gen_admin;
-- To connect even if tenants use all other connections (`reserved_connections`, PostgreSQL 16 and newer). It grants this
-- to the role that owns the tenants' tables, too.
SELECT 'GRANT pg_use_reserved_connections TO seo_gen_admin WITH ADMIN OPTION'
 WHERE EXISTS (SELECT FROM pg_roles WHERE rolname = 'pg_use_reserved_connections') \gexec
-- For base backups, and for point-in-time restores up to the present. Leave these two out if you want neither.
ALTER ROLE seo_gen_admin REPLICATION;
GRANT EXECUTE ON FUNCTION pg_switch_wal(), pg_create_restore_point(text) TO seo_gen_admin;
-- For a new administrator: on PostgreSQL 16 and newer, it can alter only the roles that it created, or that it was granted
-- like this.
SELECT format('GRANT %I TO seo_gen_admin WITH ADMIN TRUE, INHERIT FALSE, SET FALSE', rolname)
  FROM pg_roles
 WHERE current_setting('server_version_num')::int >= 160000
   AND starts_with(rolname, 'seo_gen_') AND NOT rolsuper
   AND rolname NOT IN ('seo_gen_admin', 'seo_gen_app', 'seo_gen_control_owner')
   AND NOT pg_has_role('seo_gen_admin', oid, 'MEMBER WITH ADMIN OPTION') \gexec

-- Tenants' roles have no business in the server's other databases.
REVOKE CONNECT, TEMPORARY ON DATABASE postgres, template1 FROM PUBLIC;
GRANT CONNECT ON DATABASE postgres TO seo_gen_admin;

-- The database that tenants' databases are made from: PostgreSQL's empty one, without the functions with which a tenant's
-- role could use up what all databases share (the table of advisory locks) or store data outside tables (large objects).
SELECT 'CREATE DATABASE seo_gen_base TEMPLATE template0 ENCODING ''UTF8'' IS_TEMPLATE true'
 WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = 'seo_gen_base') \gexec
ALTER DATABASE seo_gen_base ALLOW_CONNECTIONS true IS_TEMPLATE true;
REVOKE CONNECT, TEMPORARY ON DATABASE seo_gen_base FROM PUBLIC;
\connect seo_gen_base
SELECT format('REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC', oid::regprocedure)
  FROM pg_proc
 WHERE pronamespace = 'pg_catalog'::regnamespace
   AND (proname ~ '^pg_(try_)?advisory_' OR proname ~ '^lo(_|read|write)') \gexec
\connect postgres
ALTER DATABASE seo_gen_base ALLOW_CONNECTIONS false;

\if :{?tenants_only}
\else
-- Owns the control database and migrates it. The application must not, or it could remove the audit log's guards.
SELECT 'CREATE ROLE seo_gen_control_owner'
 WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'seo_gen_control_owner') \gexec
ALTER ROLE seo_gen_control_owner LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS;
-- The role that commands, workers and the web server connect as. Migrations revoke UPDATE and DELETE on audit logs from it.
SELECT 'CREATE ROLE seo_gen_app' WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'seo_gen_app') \gexec
ALTER ROLE seo_gen_app LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS;

SELECT 'GRANT pg_use_reserved_connections TO seo_gen_app, seo_gen_control_owner'
 WHERE EXISTS (SELECT FROM pg_roles WHERE rolname = 'pg_use_reserved_connections') \gexec

SELECT 'CREATE DATABASE seo_gen_control OWNER seo_gen_control_owner TEMPLATE template0 ENCODING ''UTF8'''
 WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = 'seo_gen_control') \gexec
REVOKE CONNECT, TEMPORARY ON DATABASE seo_gen_control FROM PUBLIC;
GRANT CONNECT ON DATABASE seo_gen_control TO seo_gen_app;

\connect seo_gen_control
GRANT USAGE ON SCHEMA public TO seo_gen_app;
ALTER DEFAULT PRIVILEGES FOR ROLE seo_gen_control_owner GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO seo_gen_app;
ALTER DEFAULT PRIVILEGES FOR ROLE seo_gen_control_owner GRANT USAGE, SELECT ON SEQUENCES TO seo_gen_app;
\endif
