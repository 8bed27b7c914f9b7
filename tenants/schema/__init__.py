"""The schema that a tenant's database should have, the schema that it has, and how migrations change it."""
