"""Plain Django's admin over the same tables: no theme, no audit entries, no tenant contexts.

Runs in a separate process (`python -m benchmarks.site.plain`) with its own settings.
"""
