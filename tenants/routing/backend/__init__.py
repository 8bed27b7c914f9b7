"""Django's PostgreSQL backend for tenant aliases: pooled, identity-checked and bound to the active tenant."""
