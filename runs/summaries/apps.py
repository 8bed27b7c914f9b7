from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class RunSummariesConfig(AppConfig):
    name = "runs.summaries"
    label = "run_summaries"
    verbose_name = _("Runs")
