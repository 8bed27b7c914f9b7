"""PostgreSQL servers: the administrator's session, roles, rights, locks, and PostgreSQL's own programs."""
