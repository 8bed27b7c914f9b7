"""Project wiring: settings, URLs, Celery, the command line and the embedded stack.

``config.errors``, ``config.fields`` and ``config.command`` are the foundation that every app may import; everything
else in this package sits above the apps (see the import contract in ``pyproject.toml``).
"""
