"""Project wiring: settings, URLs, Celery, the command line and the embedded stack.

Every app may import ``config.base``. ``config.stack`` runs before Django. Everything else in this package sits above
the apps (see the import contract in ``pyproject.toml``).
"""
