"""Which tenant is active, and the connection to its database."""
