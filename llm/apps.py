"""The app of LLM providers: which models there are, what they cost, which step uses which, and how to call them."""

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class LLMConfig(AppConfig):
    name = "llm"
    verbose_name = _("LLM")

    def ready(self) -> None:
        from llm import checks  # noqa: F401  (registers the system checks)
