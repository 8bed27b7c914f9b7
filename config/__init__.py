"""Project wiring: settings, URLs, Celery, the command line and the embedded stack.

Every app may import ``config.base``; pages of apps also use the lower modules of ``config.site``, such as
``admin_base``. ``config.stack`` runs before Django. The import contracts in ``pyproject.toml`` say which modules sit
above the apps.
"""
