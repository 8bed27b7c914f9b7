"""Providers, their models with prices, and the pipeline. Columns that are not in the specification follow a line."""

from typing import ClassVar

from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from config.base.fields import SerialField


class ModelClass(models.TextChoices):
    """The quality and price class of a model among its provider's models."""

    PRO = "pro", _("pro")
    STANDARD = "standard", _("standard")


class LLMProvider(models.Model):
    """A wire protocol (`llm.clients`) and the server that speaks it."""

    id = models.TextField(_("id"), primary_key=True)
    display_name = models.TextField(_("name"))
    # None: the provider's own public address.
    api_base_url = models.TextField(
        _("API base URL"),
        null=True,
        blank=True,
        help_text=_(
            "Of a compatible server, as the provider's SDK takes it: https://host for claude and gemini, "
            "https://host/v1 for openai and local. Empty: the provider's own."
        ),
    )
    is_active = models.BooleanField(_("active"), default=True, db_default=True)

    class Meta:
        db_table = "llm_providers"
        verbose_name = _("LLM provider")
        verbose_name_plural = _("LLM providers")
        ordering: ClassVar = ["id"]

    def __str__(self) -> str:
        return self.display_name


class LLMModel(models.Model):
    """A model, named as in its provider's API. Prices are in USD; a step keeps the prices it ran at."""

    id = SerialField(primary_key=True)
    provider = models.ForeignKey(
        LLMProvider, verbose_name=_("provider"), on_delete=models.PROTECT, related_name="models"
    )
    model_name = models.TextField(_("model"))
    model_class = models.TextField(_("class"), choices=ModelClass)
    # None: unknown, which is never counted as 0.
    cost_per_1k_input_tokens = models.DecimalField(
        _("USD per 1,000 input tokens"), max_digits=10, decimal_places=6, null=True, blank=True
    )
    cost_per_1k_output_tokens = models.DecimalField(
        _("USD per 1,000 output tokens"), max_digits=10, decimal_places=6, null=True, blank=True
    )
    is_active = models.BooleanField(_("active"), default=True, db_default=True)
    # -- beyond the specification --
    # Output limit of one call, reasoning included. None: `llm.selectors.DEFAULT_MAX_OUTPUT_TOKENS`.
    max_output_tokens = models.PositiveIntegerField(_("output limit (tokens)"), null=True, blank=True)
    # Prompt and output together. None: unknown.
    context_window = models.PositiveIntegerField(_("context window (tokens)"), null=True, blank=True)

    class Meta:
        db_table = "llm_models"
        verbose_name = _("LLM model")
        verbose_name_plural = _("LLM models")
        ordering: ClassVar = ["provider_id", "model_class", "-id"]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["provider", "model_name"], name="llm_models_provider_model_name_key"),
            models.CheckConstraint(condition=Q(model_class__in=ModelClass.values), name="llm_models_class_is_known"),
            models.CheckConstraint(
                condition=Q(cost_per_1k_input_tokens__gte=0) & Q(cost_per_1k_output_tokens__gte=0),
                name="llm_models_prices_are_not_negative",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.provider_id}/{self.model_name}"


class StepLLMDefault(models.Model):
    """One step of the pipeline, with its default provider and model class."""

    step = models.TextField(_("step"), primary_key=True)
    provider = models.ForeignKey(
        LLMProvider, verbose_name=_("provider"), on_delete=models.PROTECT, related_name="step_defaults"
    )
    model_class = models.TextField(_("class"), choices=ModelClass)
    # -- beyond the specification: steps run in this order --
    position = models.IntegerField(_("position"), default=0, db_default=0)

    class Meta:
        db_table = "step_llm_defaults"
        verbose_name = _("step default")
        verbose_name_plural = _("step defaults")
        ordering: ClassVar = ["position", "step"]
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=Q(model_class__in=ModelClass.values), name="step_llm_defaults_class_is_known"
            ),
        ]

    def __str__(self) -> str:
        return self.step
