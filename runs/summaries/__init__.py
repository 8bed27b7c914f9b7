"""The control database's summaries of runs and calls: kept up to date, and rebuilt on demand.

This is an app of its own, because its tables belong to the control database, and those of `runs` to the tenants'
databases.
"""
