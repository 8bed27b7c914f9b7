"""Plain Django's admin over the same tables: no theme, no audit, no tenants.

Runs in a separate process (`python -m benchmarks.site.plain`) with its own settings.
"""
