"""The app that runs the article pipeline. It keeps runs, steps and artifacts in each tenant's database."""

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class RunsConfig(AppConfig):
    name = "runs"
    verbose_name = _("Runs")

    def ready(self) -> None:
        from tenants.app_hooks import register

        # Registered by name: the module imports Celery, which most commands do not need.
        register("runs.app_hooks.RunContents")
