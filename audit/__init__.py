"""Who did what: append-only, hash-chained logs, one in every tenant's database and one in the control database."""
