"""Convert and validate an SDK's reply: the SDKs build theirs from whatever the server sent."""

from typing import Annotated, TypeAlias, TypeVar

import pydantic
from django.utils.translation import gettext as _

from llm.clients.failures import Call, redacted
from llm.errors import LLMPermanentError, LLMTransientError
from llm.types import LLMReply, TokenUsage

Count: TypeAlias = Annotated[int, pydantic.Field(strict=True, ge=0)]


class Wire(pydantic.BaseModel):
    """The fields we need from an SDK's object. New fields and enum values of a provider are accepted."""

    model_config = pydantic.ConfigDict(from_attributes=True, frozen=True)


WireT = TypeVar("WireT", bound=Wire)


def read(schema: type[WireT], reply: object) -> WireT:
    """Return the fields we need from an SDK's reply; `translated` handles the `ValidationError` if it is malformed."""
    return schema.model_validate(reply)


def reply_of(
    call: Call, *, text: str, usage: TokenUsage | None, model: str | None, finish_reason: str, refusal: str | None
) -> LLMReply:
    """Return the reply, or raise if it cannot be used.

    `refusal` is why the provider's policies withheld the text, "" if it gives no reason, None if it did not refuse.

    - no token counts: permanent, because the server never sends them, and each retry would be billed but not counted;
    - refused: permanent, and any partial text must not be used;
    - no text because the limit was used up, mostly by reasoning: permanent, because a retry has the same limit;
    - no text for another reason: transient, because another sample usually has text.
    """
    names = {**call.names, "reason": finish_reason or "-"}
    if usage is None:
        raise LLMPermanentError(
            _("The provider %(provider)s returned no token counts for model %(model)s.") % names,
            code="llm_usage_missing",
        )
    if refusal is not None:
        message = _("Model %(model)s of the provider %(provider)s refused to answer (%(reason)s).") % names
        raise LLMPermanentError(message, hint=redacted(refusal, call), usage=usage, code="llm_refused")
    reply = LLMReply(text=text, usage=usage, model=model or call.request.model, finish_reason=finish_reason)
    if text.strip():
        return reply
    if reply.truncated:
        raise LLMPermanentError(
            _("Model %(model)s of the provider %(provider)s reached its output limit (%(reason)s) without any text.")
            % names,
            hint=_("Raise the model's output limit in the admin under Models and prices."),
            usage=usage,
            code="llm_output_limit_reached",
        )
    raise LLMTransientError(
        _("Model %(model)s of the provider %(provider)s returned no text (%(reason)s).") % names,
        usage=usage,
        code="llm_reply_empty",
    )
