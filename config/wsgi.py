"""The WSGI application: ``gunicorn config.wsgi:application``. Importing it starts the embedded servers."""

import os

from django.core.wsgi import get_wsgi_application

from config import prepare

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
prepare.servers()
application = get_wsgi_application()
