"""LLM errors. `permanent` alone decides whether a call is retried."""

from django.utils.translation import gettext as _

from config.base.errors import SeoGenError
from llm.types import TokenUsage


class LLMError(SeoGenError):
    """Root. `retry_after_s` is the wait the provider asks for; `usage` is what it counted for the failed call."""

    permanent = True

    def __init__(
        self,
        message: str,
        *,
        hint: str = "",
        code: str = "",
        retry_after_s: float | None = None,
        usage: TokenUsage | None = None,
    ) -> None:
        super().__init__(message, hint=hint, code=code)
        self.retry_after_s = retry_after_s
        self.usage = usage


class LLMPermanentError(LLMError):
    """A retry would fail in the same way."""


class LLMTransientError(LLMError):
    """A later retry may succeed."""

    permanent = False


class MissingKey(LLMPermanentError):
    """A provider cannot be used until an environment variable is set."""

    code = "llm_key_missing"

    def __init__(self, provider_id: str, variable: str) -> None:
        super().__init__(
            _("The provider %(provider)s needs the environment variable %(variable)s, which is not set.")
            % {"provider": provider_id, "variable": variable},
            hint=_("Set it for the web server and the workers, or route the step to another provider."),
        )
        self.variable = variable


class InvalidKey(LLMPermanentError):
    """A key contains characters that an HTTP header cannot carry."""

    code = "llm_key_invalid"

    def __init__(self, provider_id: str, variable: str) -> None:
        super().__init__(
            _("The API key of the provider %(provider)s in %(variable)s contains spaces or other invalid characters.")
            % {"provider": provider_id, "variable": variable}
        )


class UnknownProvider(LLMPermanentError):
    code = "llm_provider_not_found"

    def __init__(self, provider_id: str, known: list[str]) -> None:
        super().__init__(
            _("There is no LLM provider %(provider)s.") % {"provider": repr(provider_id)},
            hint=_("Known providers: %(known)s.") % {"known": ", ".join(known) or "-"},
        )


class InactiveProvider(LLMPermanentError):
    code = "llm_provider_inactive"

    def __init__(self, provider_id: str) -> None:
        super().__init__(
            _("The LLM provider %(provider)s is not active.") % {"provider": provider_id},
            hint=_("Activate it in the admin under Providers, or route the step to another provider."),
        )


class InvalidBaseURL(LLMPermanentError):
    """The message omits the URL, because it may contain credentials."""

    code = "llm_url_invalid"

    def __init__(self, provider_id: str) -> None:
        super().__init__(
            _("The API base URL of the provider %(provider)s is not a plain URL such as https://host.")
            % {"provider": provider_id},
            hint=_(
                "Enter it without credentials, query or fragment in the admin under Providers, or in LOCAL_LLM_URL."
            ),
        )


class InsecureBaseURL(LLMPermanentError):
    """An API key must not be sent over a network unencrypted."""

    code = "llm_url_insecure"

    def __init__(self, provider_id: str) -> None:
        super().__init__(
            _("The API base URL of the provider %(provider)s must start with https://.") % {"provider": provider_id},
            hint=_("http is allowed for LOCAL_LLM_URL, and for a loopback address with its port in LLM_ALLOWED_HOSTS."),
        )


class HostNotAllowed(LLMPermanentError):
    """The operator has not allowed keys and prompts to be sent there."""

    code = "llm_host_not_allowed"

    def __init__(self, provider_id: str, host: str) -> None:
        super().__init__(
            _("The API base URL of the provider %(provider)s points to %(host)s, which is not an allowed host.")
            % {"provider": provider_id, "host": host},
            hint=_(
                "Clear the URL in the admin under Providers, or add the host to LLM_ALLOWED_HOSTS for the command line,"
                " the web server and the workers."
            ),
        )


class NoActiveModel(LLMPermanentError):
    """The provider has no active model of this class or name."""

    code = "llm_model_not_found"

    def __init__(self, provider_id: str, wanted: str) -> None:
        super().__init__(
            _("The LLM provider %(provider)s has no active model %(wanted)s.")
            % {"provider": provider_id, "wanted": repr(wanted)},
            hint=_("Add or activate one in the admin under Models and prices."),
        )


class UnknownStep(LLMPermanentError):
    code = "step_not_found"

    def __init__(self, step: str, known: list[str]) -> None:
        super().__init__(
            _("The pipeline has no step %(step)s.") % {"step": repr(step)},
            hint=_("Its steps are: %(known)s.") % {"known": ", ".join(known) or "-"},
        )


class InvalidModelClass(LLMPermanentError):
    code = "llm_model_class_not_found"

    def __init__(self, model_class: str, known: list[str]) -> None:
        super().__init__(
            _("There is no model class %(model_class)s.") % {"model_class": repr(model_class)},
            hint=_("Known model classes: %(known)s.") % {"known": ", ".join(known)},
        )


class PricesUnavailable(LLMTransientError):
    """The current price list cannot be fetched."""

    code = "llm_prices_unavailable"

    def __init__(self, url: str, reason: str) -> None:
        super().__init__(
            _("The price list at %(url)s cannot be read: %(reason)s.") % {"url": url, "reason": reason.rstrip(".")},
            hint=_("Leave out --online to use the installed list."),
        )
