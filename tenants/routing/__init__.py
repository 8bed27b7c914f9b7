"""Keep track of the active tenant, and connect to its database."""
