"""The control database's summary of every run: kept up to date with the runs' transitions, rebuilt on demand.

An app of its own, since its table belongs to the control database, and those of `runs` belong to the tenants'
databases.
"""
