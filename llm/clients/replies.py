"""From an SDK's reply to ours: checked, because the SDKs build theirs from whatever the server sent."""

from typing import Annotated, TypeAlias, TypeVar

import pydantic
from django.utils.translation import gettext as _

from llm.clients.failures import Call, redacted
from llm.errors import LLMPermanentError, LLMTransientError
from llm.types import LLMReply, TokenUsage

Count: TypeAlias = Annotated[int, pydantic.Field(strict=True, ge=0)]


class Wire(pydantic.BaseModel):
    """What we need of an SDK's object, read from its attributes; new fields and new enum values of a provider pass."""

    model_config = pydantic.ConfigDict(from_attributes=True, frozen=True)


WireT = TypeVar("WireT", bound=Wire)


def read(schema: type[WireT], reply: object) -> WireT:
    """Return what we need of the SDK's reply; `translated` turns the `ValidationError` of a malformed one into ours."""
    return schema.model_validate(reply)


def reply_of(
    call: Call, *, text: str, usage: TokenUsage | None, model: str | None, finish_reason: str, refusal: str | None
) -> LLMReply:
    """Return the reply, or raise where it cannot be used.

    `refusal` is why the provider withheld the text for its policies, "" if it does not say, None if it did not.

    - no token counts: permanent, because it is how that server is, and every further call would be paid and uncounted;
    - refused: permanent, and what there is of the text is not to be used;
    - no text because the limit was spent, by reasoning mostly: permanent, the next call has the same limit;
    - no text otherwise: transient, another sample mostly has one.
    """
    names = {**call.names, "reason": finish_reason or "-"}
    if usage is None:
        raise LLMPermanentError(
            _("The provider %(provider)s did not say how many tokens its reply of model %(model)s took.") % names,
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
            _("Model %(model)s of the provider %(provider)s reached its output limit (%(reason)s) before any text.")
            % names,
            hint=_("Raise the model's output limit in the admin under LLM models."),
            usage=usage,
            code="llm_output_limit_reached",
        )
    raise LLMTransientError(
        _("Model %(model)s of the provider %(provider)s answered without text (%(reason)s).") % names,
        usage=usage,
        code="llm_reply_empty",
    )
