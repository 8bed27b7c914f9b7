"""The app that runs the article pipeline: runs, steps and artifacts, kept in each tenant's database."""

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class RunsConfig(AppConfig):
    name = "runs"
    verbose_name = _("Runs")

    def ready(self) -> None:
        from tenants.app_hooks import register

        # By its name: most commands have no use for it, nor for Celery, which it imports.
        register("runs.app_hooks.RunContents")
