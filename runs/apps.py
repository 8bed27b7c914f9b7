"""The app that runs the article pipeline: runs, steps and artifacts, kept in each tenant's database."""

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class RunsConfig(AppConfig):
    name = "runs"
    verbose_name = _("Runs")

    def ready(self) -> None:
        from runs.contents import RunContents
        from tenants.contents import register

        register(RunContents())
