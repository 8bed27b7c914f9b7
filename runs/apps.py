"""The app that runs the article pipeline. It keeps runs, steps and artifacts in each tenant's database."""

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class RunsConfig(AppConfig):
    name = "runs"
    verbose_name = _("Runs")

    def ready(self) -> None:
        import prompts.app_hooks
        import tenants.app_hooks
        from llm import in_use

        # Registered by name: the modules import Celery or models, which most commands do not need.
        tenants.app_hooks.register("runs.app_hooks.RunContents")
        prompts.app_hooks.register("runs.history.past_runs.RunHistory")
        in_use.register("runs.summaries.in_use.unfinished_uses")
