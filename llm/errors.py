"""LLM errors. `permanent` says whether the same call would fail again."""

from django.utils.translation import gettext as _

from config.base.errors import SeoGenError
from llm.types import TokenUsage


class LLMError(SeoGenError):
    """The base class of errors about providers, models and prices.

    `retry_after_s` is the number of seconds that the provider asks us to wait, `usage` what it counted for the failed
    call, and `request_id` its own id of the call. `may_be_billed` means that the request may have been sent and no one
    knows what it cost: `usage` is None, but the provider may have done the work. It is False if the provider answered
    with an HTTP error status.
    """

    permanent = True

    def __init__(
        self,
        message: str,
        *,
        hint: str = "",
        page_hint: str = "",
        code: str = "",
        retry_after_s: float | None = None,
        usage: TokenUsage | None = None,
        request_id: str = "",
        may_be_billed: bool = False,
    ) -> None:
        super().__init__(message, hint=hint, page_hint=page_hint, code=code)
        self.retry_after_s = retry_after_s
        self.usage = usage
        self.request_id = request_id
        self.may_be_billed = may_be_billed


class LLMPermanentError(LLMError):
    """A retry would fail in the same way."""


class LLMTransientError(LLMError):
    """A later retry may succeed."""

    permanent = False


class CallAborted(LLMTransientError):
    """Our own `Abort` ended the call."""

    code = "llm_call_aborted"

    def __init__(self, provider_id: str, model: str, *, may_be_billed: bool, request_id: str = "") -> None:
        super().__init__(
            _("The call to the provider %(provider)s for model %(model)s was aborted.")
            % {"provider": provider_id, "model": model},
            may_be_billed=may_be_billed,
            request_id=request_id,
        )


class PromptTooLong(LLMPermanentError):
    """However its tokens are counted, the prompt leaves no room for an answer in the model's context window."""

    code = "llm_prompt_too_long"

    def __init__(self, provider_id: str, model: str, *, tokens: int, window: int) -> None:
        super().__init__(
            _(
                "The prompt leaves no room for an answer from model %(model)s of the provider %(provider)s: it has at"
                " least %(tokens)d tokens, and the context window is %(window)d."
            )
            % {"provider": provider_id, "model": model, "tokens": tokens, "window": window},
            hint=_(
                "Shorten the prompt, route the step to another model, or correct the context window in the admin under"
                " Models and prices."
            ),
        )


class MissingKey(LLMPermanentError):
    """A provider cannot be used until an environment variable is set."""

    code = "llm_key_missing"

    def __init__(self, provider_id: str, variable: str) -> None:
        super().__init__(
            _("The provider %(provider)s needs the environment variable %(variable)s, which is not set.")
            % {"provider": provider_id, "variable": variable},
            hint=_("Set it for the command line, the web server and the workers, or use another provider."),
        )
        self.variable = variable


class InvalidKey(LLMPermanentError):
    """A key contains spaces or characters other than printable ASCII."""

    code = "llm_key_invalid"

    def __init__(self, provider_id: str, variable: str) -> None:
        super().__init__(
            _("The API key of the provider %(provider)s in %(variable)s contains spaces or other invalid characters.")
            % {"provider": provider_id, "variable": variable}
        )


class InvalidKeyVariable(LLMPermanentError):
    """No key variable may have this name. The message omits the name, because it may be a key itself."""

    code = "llm_key_variable_invalid"

    def __init__(self, provider_id: str) -> None:
        super().__init__(
            _("The key variable of the provider %(provider)s is not a valid name for an API key variable.")
            % {"provider": provider_id},
            hint=_(
                "Enter the name of an environment variable, in capitals and ending in _API_KEY, in the admin under"
                " Providers."
            ),
        )


class MissingKeyVariable(LLMPermanentError):
    """A vendor's own server needs a key, but the provider names no variable that holds one."""

    code = "llm_key_variable_missing"

    def __init__(self, provider_id: str) -> None:
        super().__init__(
            _("The provider %(provider)s uses its vendor's own server, but has no key variable.")
            % {"provider": provider_id},
            hint=_(
                "Enter the variable that holds its key, or the API base URL of another server, in the admin under"
                " Providers."
            ),
        )


class ForeignKeyVariable(LLMPermanentError):
    """A vendor's server may get only keys that are named for the vendor, unless the operator lists its host."""

    code = "llm_key_variable_foreign"

    def __init__(self, provider_id: str, host: str) -> None:
        super().__init__(
            _("The provider %(provider)s calls %(host)s, but its key variable is not named for that vendor.")
            % {"provider": provider_id, "host": host},
            hint=_(
                "Use a variable that begins as the vendor's own does, with ANTHROPIC_, GEMINI_ or OPENAI_, and ends in"
                " _API_KEY, or add the host to LLM_ALLOWED_HOSTS."
            ),
        )


class UnknownWire(LLMPermanentError):
    code = "llm_wire_not_found"

    def __init__(self, provider_id: str, wire: str, known: list[str]) -> None:
        super().__init__(
            _("The LLM provider %(provider)s speaks %(wire)s, for which this release has no client.")
            % {"provider": provider_id, "wire": repr(wire)},
            hint=_("Known wires: %(known)s.") % {"known": ", ".join(known)},
        )


class UnknownProvider(LLMPermanentError):
    code = "llm_provider_not_found"

    def __init__(self, provider_id: str, known: list[str]) -> None:
        super().__init__(
            _("There is no LLM provider %(provider)s.") % {"provider": repr(provider_id)},
            hint=_("Known providers: %(known)s.") % {"known": ", ".join(known)} if known else "",
        )


class InactiveProvider(LLMPermanentError):
    code = "llm_provider_inactive"

    def __init__(self, provider_id: str) -> None:
        super().__init__(
            _("The LLM provider %(provider)s is not active.") % {"provider": provider_id},
            hint=_("Activate it in the admin under Providers, or route the step to another provider."),
        )


class InvalidBaseURL(LLMPermanentError):
    """The base URL is malformed; the message omits it, because it may contain credentials."""

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
    """Plain http is allowed only for `LOCAL_LLM_URL`, and for loopback addresses that `LLM_ALLOWED_HOSTS` lists."""

    code = "llm_url_insecure"

    def __init__(self, provider_id: str) -> None:
        super().__init__(
            _("The API base URL of the provider %(provider)s must start with https://.") % {"provider": provider_id},
            hint=_(
                "http is allowed only for LOCAL_LLM_URL, and for loopback addresses that"
                " LLM_ALLOWED_HOSTS lists with a port."
            ),
        )


class HostNotAllowed(LLMPermanentError):
    """The operator has not allowed keys and prompts to be sent to this host."""

    code = "llm_host_not_allowed"

    def __init__(self, provider_id: str, host: str) -> None:
        super().__init__(
            _("The API base URL of the provider %(provider)s points to %(host)s, which is not an allowed host.")
            % {"provider": provider_id, "host": host},
            hint=_(
                "Add the host to LLM_ALLOWED_HOSTS for the command line, the web server and the workers, or enter"
                " another URL in the admin under Providers."
            ),
        )


class NoActiveModel(LLMPermanentError):
    """The provider has no active model of this class or name."""

    code = "llm_model_not_found"

    def __init__(self, provider_id: str, *, model_class: str = "", model: str = "") -> None:
        if model_class:
            message = _("The LLM provider %(provider)s has no active model of class %(wanted)s.")
        else:
            message = _("The LLM provider %(provider)s has no active model named %(wanted)s.")
        super().__init__(
            # Quoted, since a run's configuration can name any model.
            message % {"provider": provider_id, "wanted": repr(model_class or model)},
            hint=_("Add or activate one in the admin under Models and prices."),
        )


class NoModels(LLMPermanentError):
    code = "llm_models_missing"

    def __init__(self, provider_id: str) -> None:
        super().__init__(
            _("The LLM provider %(provider)s has no active model.") % {"provider": provider_id},
            hint=_("Add or activate one in the admin under Models and prices."),
        )


class UnknownStep(LLMPermanentError):
    code = "step_not_found"

    def __init__(self, step: str, known: list[str]) -> None:
        super().__init__(
            _("The pipeline has no step %(step)s.") % {"step": repr(step)},
            hint=_("Known steps: %(known)s.") % {"known": ", ".join(known)} if known else "",
        )


class InvalidModelClass(LLMPermanentError):
    code = "llm_model_class_not_found"

    def __init__(self, model_class: str, known: list[str]) -> None:
        super().__init__(
            _("There is no model class %(model_class)s.") % {"model_class": repr(model_class)},
            hint=_("Known model classes: %(known)s.") % {"known": ", ".join(known)},
        )


class InvalidPrice(LLMPermanentError):
    """Prices are not valid, or would begin before those that are already in effect."""

    code = "llm_price_invalid"


class PricesChanged(LLMPermanentError):
    """The prices in effect changed after the person who is replacing them had read them."""

    code = "llm_prices_changed"

    def __init__(self, model: str) -> None:
        super().__init__(
            _("The prices of model %(model)s have changed in the meantime, so nothing was saved.") % {"model": model},
            hint=_("Check the current prices and save again."),
        )


class ComparisonOutdated(LLMPermanentError):
    """The models, their prices, the price list or the day changed after a person had seen the comparison."""

    code = "llm_prices_comparison_outdated"

    def __init__(self) -> None:
        super().__init__(
            _("The comparison has changed since it was shown, so nothing was imported."),
            hint=_("Check the new comparison and import it."),
        )


class PriceByHand(LLMPermanentError):
    """The price list would overwrite prices that a person set."""

    code = "llm_price_by_hand"

    def __init__(self, model: str) -> None:
        super().__init__(
            _("The prices of model %(model)s were set by hand.") % {"model": model},
            hint=_("Pass --overwrite to replace them with those of the price list."),
        )


class UnknownModel(LLMPermanentError):
    code = "model_unknown"

    def __init__(self, model: str, known: list[str]) -> None:
        super().__init__(
            _("There is no model %(model)s.") % {"model": repr(model)},
            hint=_("Known models: %(known)s.") % {"known": ", ".join(known)} if known else "",
        )


class PricesUnavailable(LLMTransientError):
    """The current price list cannot be fetched or read."""

    code = "llm_prices_unavailable"

    def __init__(self, url: str, reason: str) -> None:
        super().__init__(
            _("The price list at %(url)s cannot be read: %(reason)s.") % {"url": url, "reason": reason.rstrip(".")},
            hint=_("Use the installed list: leave out --online."),
            page_hint=_("Use “The list that came with the product”."),
        )
