"""Code that every app may import. It imports no app, except `audit.log.actor` for commands."""
