"""The app that runs the article pipeline: runs, steps and artifacts, kept in each tenant's database."""

from celery import current_app
from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class RunsConfig(AppConfig):
    name = "runs"
    verbose_name = _("Runs")

    def ready(self) -> None:
        # Before anything is sent: Celery makes its `amqp` on first use.
        current_app.amqp_cls = "runs.messages:GuardedAMQP"
        from runs.contents import RunContents
        from tenants.contents import register

        register(RunContents())
