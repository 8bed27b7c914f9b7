"""LLM providers, their models and prices, the routing of the pipeline's steps, and the clients that call them."""

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class LLMConfig(AppConfig):
    name = "llm"
    verbose_name = _("LLM")

    def ready(self) -> None:
        from llm import checks  # noqa: F401  (registers the system checks)
