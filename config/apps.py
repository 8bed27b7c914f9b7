"""The project's own app: its commands, and the Celery application that every process sends its tasks through."""

from importlib import import_module

from django.apps import AppConfig


class ProjectConfig(AppConfig):
    name = "config"

    def ready(self) -> None:
        # Makes it every thread's application; without it `celery.current_app` would be Celery's own default, with a
        # broker on this machine's port 5672.
        import_module("config.celery")
