"""Providers, their models with prices, and the pipeline. Columns that are not in the specification come last."""

from typing import ClassVar

from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from config.base.fields import SerialField, SqlNow


class ModelClass(models.TextChoices):
    """The quality and price class of a model among its provider's models."""

    PRO = "pro", _("pro")
    STANDARD = "standard", _("standard")


class Wire(models.TextChoices):
    """The API that a provider's server speaks. Each wire has a client (`llm.clients.registry`)."""

    ANTHROPIC = "anthropic", _("Anthropic")
    GEMINI = "gemini", _("Gemini")
    OPENAI = "openai", _("OpenAI or compatible")


class OnTruncation(models.TextChoices):
    """What to do with a reply that reached the output limit or filled the context window."""

    RETRY = "retry", _("retry once with a larger limit, then fail")
    FAIL = "fail", _("fail the step")
    ACCEPT = "accept", _("accept it, marked as truncated")


class LLMProvider(models.Model):
    """A server that runs models: how to call it, and its limits across all workers."""

    id = models.TextField(_("id"), primary_key=True)
    display_name = models.TextField(_("name"))
    # None: the vendor's own public address, or LOCAL_LLM_URL.
    api_base_url = models.TextField(
        _("API base URL"),
        null=True,
        blank=True,
        help_text=_(
            "URL of the server, in the form that the wire's SDK expects: https://host for"
            " Anthropic and Gemini, https://host/v1 for OpenAI and compatible servers. Leave"
            " empty to use the vendor's own."
        ),
    )
    is_active = models.BooleanField(_("active"), default=True, db_default=True)
    # -- beyond the specification --
    wire = models.TextField(_("wire"), choices=Wire, default=Wire.OPENAI, db_default=Wire.OPENAI)
    # The environment variable that holds its key (`llm.keys`); "": it needs none.
    key_variable = models.TextField(_("key variable"), blank=True, default="", db_default="")
    # Limits over all workers together; None: no limit.
    max_concurrent_calls = models.PositiveIntegerField(_("calls at a time"), null=True, blank=True)
    requests_per_minute = models.PositiveIntegerField(_("requests per minute"), null=True, blank=True)
    tokens_per_minute = models.PositiveIntegerField(_("tokens per minute"), null=True, blank=True)

    class Meta:
        db_table = "llm_providers"
        verbose_name = _("LLM provider")
        verbose_name_plural = _("LLM providers")
        ordering: ClassVar = ["id"]
        constraints: ClassVar = [
            models.CheckConstraint(condition=Q(wire__in=Wire.values), name="llm_providers_wire_is_known"),
        ]

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
    # The prices in effect today, rounded, from `LLMPrice`. None: unknown, which is never counted as 0.
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
    # Limits over all workers together; None: no limit.
    max_concurrent_calls = models.PositiveIntegerField(_("calls at a time"), null=True, blank=True)
    requests_per_minute = models.PositiveIntegerField(_("requests per minute"), null=True, blank=True)
    tokens_per_minute = models.PositiveIntegerField(_("tokens per minute"), null=True, blank=True)
    # The day on which the provider stops serving the model; None: not announced, or not known.
    retires_on = models.DateField(_("retirement date"), null=True, blank=True)
    # The price list says that the provider is retiring the model. It states no date.
    is_deprecated = models.BooleanField(_("being retired"), default=False, db_default=False)

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


class PriceSource(models.TextChoices):
    """Where a price comes from: the price list, a person, or a release without a history of prices."""

    LIST = "list", _("price list")
    HAND = "hand", _("by hand")
    # It was in the catalogue before the history began.
    EARLIER = "earlier", _("earlier release")


class LLMPrice(models.Model):
    """The prices of a model from a day on. The latest row that has begun is in effect.

    Rows are only added, and deleted only with their model: triggers (migration 0003) refuse every other change. They
    also add a row if anything but `llm.prices` changes the price columns of a model.
    """

    id = SerialField(primary_key=True)
    # The database has the constraint, with ON DELETE CASCADE, which Django 5.2 cannot state.
    model = models.ForeignKey(
        LLMModel, verbose_name=_("model"), on_delete=models.DO_NOTHING, db_constraint=False, related_name="prices"
    )
    # The first day (UTC). Of several rows with the same day, the last one counts.
    valid_from = models.DateField(_("valid from"))
    # `llm.types.ModelPrices`
    prices = models.JSONField(_("prices"))
    source = models.TextField(_("source"), choices=PriceSource)
    # The actor, as in the audit log.
    made_by = models.TextField(_("set by"))
    note = models.TextField(_("note"), db_default="", default="", blank=True)
    created_at = models.DateTimeField(_("created"), db_default=SqlNow())

    class Meta:
        db_table = "llm_prices"
        verbose_name = _("price")
        verbose_name_plural = _("prices")
        ordering: ClassVar = ["model", "-valid_from", "-id"]
        constraints: ClassVar = [
            models.CheckConstraint(condition=Q(source__in=PriceSource.values), name="llm_prices_source_is_known"),
        ]

    def __str__(self) -> str:
        return f"{self.model_id} {self.valid_from}"


class StepLLMDefault(models.Model):
    """One step of the pipeline, with its default provider and model class."""

    step = models.TextField(_("step"), primary_key=True)
    provider = models.ForeignKey(
        LLMProvider, verbose_name=_("provider"), on_delete=models.PROTECT, related_name="step_defaults"
    )
    model_class = models.TextField(_("class"), choices=ModelClass)
    # -- beyond the specification: steps run in this order --
    position = models.IntegerField(_("position"), default=0, db_default=0)
    # Runs pause before this step until someone approves it.
    review = models.BooleanField(_("review before this step"), default=False, db_default=False)
    on_truncation = models.TextField(
        _("if the output is truncated"), choices=OnTruncation, default=OnTruncation.RETRY, db_default=OnTruncation.RETRY
    )

    # Only the workers have the key of the provider or of a fallback: other processes do not require it.
    key_at_workers = models.BooleanField(_("only workers have the key"), default=False, db_default=False)
    # [{"provider", "model_class"}] (`llm.types.Fallback`), in order: what runs use instead while the breaker of the
    # step's model is open, or once the model is retired, inactive or gone.
    fallbacks = models.JSONField(_("fallbacks"), default=list, db_default=[], blank=True)

    class Meta:
        db_table = "step_llm_defaults"
        verbose_name = _("step default")
        verbose_name_plural = _("step defaults")
        ordering: ClassVar = ["position", "step"]
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=Q(model_class__in=ModelClass.values), name="step_llm_defaults_class_is_known"
            ),
            models.CheckConstraint(
                condition=Q(on_truncation__in=OnTruncation.values), name="step_llm_defaults_on_truncation_is_known"
            ),
        ]

    def __str__(self) -> str:
        return self.step
