"""Project wiring: settings, URLs, Celery, the command line and the embedded stack.

``config.base`` is the foundation that every app may import, ``config.stack`` runs before Django; everything else in
this package sits above the apps (see the import contract in ``pyproject.toml``).
"""
