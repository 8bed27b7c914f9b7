"""Assemble a reply from its parts, and judge it. Token totals are read strictly, and anything else leniently."""

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

from django.utils.translation import gettext as _

from llm.clients.body import Limits, Mark, Part, TooLarge
from llm.clients.failures import Call, malformed, redacted, storable
from llm.errors import LLMPermanentError, LLMTransientError
from llm.types import LLMReply, TokenUsage

JSONObject = Mapping[str, Any]

# The largest count of one call; the columns and sums that hold counts take no more.
MAX_COUNT = 2**31 - 1
# Names and reasons are a few words; no server may fill a log line or a column with them.
MAX_NAME_CHARS = 200
# How models mark reasoning if the server in front of them does not separate it.
_OPENING = re.compile(r"\s*<think(?:ing)?>", re.IGNORECASE)
_CLOSING = re.compile(r"</think(?:ing)?>", re.IGNORECASE)
_CLOSING_LINE = re.compile(r"^[ \t]*</think(?:ing)?>[ \t]*$", re.IGNORECASE | re.MULTILINE)


class InvalidCount(Exception):
    """A token count is not a whole number between 0 and `MAX_COUNT`."""


class Assembly(ABC):
    """The parts of one reply that have arrived. Each wire has its own subclass, whose `read` collects them here."""

    # Whether a stream in this wire format says where it ends; the counts come before that.
    marks_end: ClassVar = True

    def __init__(self, limits: Limits) -> None:
        self._max_chars = limits.text_chars
        self._texts: list[str] = []
        self._chars = 0
        # In the provider's words; None if not stated so far.
        self.model: str | None = None
        self.finish_reason: str | None = None
        # Why the provider's policies withheld the text, "" if it gives no reason, None if it did not refuse.
        self.refusal: str | None = None
        # The provider's own id of the reply.
        self.id = ""
        # Fields of the provider's usage object; later parts of a stream replace those of earlier ones.
        self.counts: dict[str, Any] = {}
        # The document with the provider's error.
        self.error: JSONObject | None = None
        # Whether a reply has begun, as opposed to nothing or something else.
        self.began = False
        self.is_malformed = False
        # Whether the last part was an event of a stream.
        self.streamed = False
        # Whether the model has begun to write.
        self.has_tokens = False
        # Whether the wire's own mark of the end has arrived.
        self.has_ended = False

    def add(self, part: Part) -> None:
        """Read one part of the body. Raises `TooLarge`."""
        self.streamed = part.streamed
        if part.value is Mark.DONE:
            self.end()
        elif isinstance(part.value, dict):
            self._add(part.value)
        elif isinstance(part.value, list) and part.value and all(isinstance(each, dict) for each in part.value):
            for each in part.value:  # Gemini's stream without SSE
                self._add(each)
        else:
            self.is_malformed = True
        if not part.streamed:
            self.end()

    def _add(self, document: JSONObject) -> None:
        if document.get("error"):
            self.error = self.error or document
        self.read(document)

    @abstractmethod
    def read(self, document: JSONObject) -> None:
        """Read one JSON object, whatever it holds. Raises `TooLarge`."""

    @abstractmethod
    def usage(self) -> TokenUsage | None:
        """Return what `counts` says, or None if it does not state how many tokens there were. Raises `InvalidCount`."""

    def end(self) -> None:
        """Note that the reply has ended."""
        self.has_ended = True

    @property
    def is_complete(self) -> bool:
        """Whether the reply is complete. A server may omit the mark of the end if it has sent everything else."""
        if self.has_ended or self.finish_reason is None:
            return self.has_ended
        return not self.marks_end or self.stated_usage() is not None

    @property
    def has_text(self) -> bool:
        return self._chars > 0

    @property
    def text(self) -> str:
        return without_reasoning(storable("".join(self._texts)))

    def token_came(self) -> None:
        """Note that the model has begun to write, even if it is reasoning, which is not kept."""
        self.has_tokens = True

    def say(self, text: object) -> None:
        """Add to the text of the reply; anything but a string is ignored."""
        if not isinstance(text, str) or not text:
            return
        self._chars += len(text)
        if self._chars > self._max_chars:
            raise TooLarge
        self._texts.append(text)
        self.token_came()

    def count(self, usage: object) -> None:
        """Store the fields of a usage object that are not null."""
        self.counts.update({name: value for name, value in an_object(usage).items() if value is not None})

    def stated_usage(self) -> TokenUsage | None:
        """Return the provider's counts; None if it sent none, or impossible ones."""
        try:
            return self.usage()
        except InvalidCount:
            return None


def finished(call: Call, reply: Assembly, request_id: str) -> LLMReply:
    """Return a complete reply, or raise if it cannot be used.

    - refused: permanent, and any partial text must not be used;
    - no token counts: permanent, because the server probably never sends them, and retries would be billed uncounted;
    - impossible token counts, or nothing that the API documents: transient, because a gateway may have caused it;
    - no text because a limit was used up, mostly by reasoning: permanent, because a retry has the same limit;
    - no text for another reason: transient, because another sample usually has text.
    """
    finish_reason = named(reply.finish_reason)
    names = {**call.names, "reason": finish_reason}
    usage = reply.stated_usage()
    if reply.is_malformed or not reply.began:
        raise malformed(call, usage=usage, request_id=request_id)
    if reply.refusal is not None:
        raise LLMPermanentError(
            (
                _("Model %(model)s of the provider %(provider)s refused to answer (%(reason)s).")
                if finish_reason
                else _("Model %(model)s of the provider %(provider)s refused to answer.")
            )
            % names,
            hint=redacted(reply.refusal, call),
            usage=usage,
            code="llm_refused",
            request_id=request_id,
            may_be_billed=usage is None,
        )
    if usage is None:
        raise _uncounted(call, reply, request_id)
    text = reply.text
    result = LLMReply(
        text=text,
        usage=usage,
        model=named(reply.model) or call.request.model,
        finish_reason=finish_reason,
        request_id=request_id,
    )
    if text.strip():
        return result
    if result.filled_context:
        raise LLMPermanentError(
            _(
                "Model %(model)s of the provider %(provider)s filled its context window (%(reason)s) without returning"
                " any text."
            )
            % names,
            hint=_("Shorten the prompt, or use a model with a larger context window."),
            usage=usage,
            code="llm_context_full",
            request_id=request_id,
        )
    if result.truncated:
        raise LLMPermanentError(
            _(
                "Model %(model)s of the provider %(provider)s reached its output limit (%(reason)s) without returning"
                " any text."
            )
            % names,
            hint=_(
                "Raise the output limit: the tenant's own for the step, if it has one, otherwise the model's in the"
                " admin under Models and prices. Existing runs keep a tenant's own limit. If the limit was the rest of"
                " the context window, shorten the prompt instead."
            ),
            usage=usage,
            code="llm_output_limit_reached",
            request_id=request_id,
        )
    raise LLMTransientError(
        (
            _("Model %(model)s of the provider %(provider)s returned no text (%(reason)s).")
            if finish_reason
            else _("Model %(model)s of the provider %(provider)s returned no text.")
        )
        % names,
        usage=usage,
        code="llm_reply_empty",
        request_id=request_id,
    )


def _uncounted(call: Call, reply: Assembly, request_id: str) -> LLMPermanentError | LLMTransientError:
    try:
        reply.usage()
    except InvalidCount:
        return malformed(call, request_id=request_id)
    return LLMPermanentError(
        _("The provider %(provider)s returned no token counts for model %(model)s.") % call.names,
        code="llm_usage_missing",
        request_id=request_id,
        may_be_billed=True,
    )


def count_of(counts: JSONObject, name: str) -> int | None:
    """Return a count, or None if it is not stated. Raises `InvalidCount`."""
    value = counts.get(name)
    if value is None:
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # as some servers write whole numbers
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= MAX_COUNT:
        raise InvalidCount
    return value


def part_of(total: int, counts: JSONObject, name: str) -> int:
    """Return the part of a total that has its own price, or 0 if it is invalid, so that the full price applies."""
    part = unbilled_count(counts, name)
    return part if part <= total else 0


def unbilled_count(counts: JSONObject, name: str) -> int:
    """Return a count, read leniently: 0 if it is missing or impossible."""
    try:
        return count_of(counts, name) or 0
    except InvalidCount:
        return 0


def checked(usage: TokenUsage) -> TokenUsage:
    """Return the usage; raise `InvalidCount` if a total, which may be a sum of counts, exceeds `MAX_COUNT`."""
    if max(usage.input_tokens, usage.output_tokens) > MAX_COUNT:
        raise InvalidCount
    return usage


def an_object(value: object) -> JSONObject:
    """Return the value if it is a JSON object, else {}."""
    return value if isinstance(value, dict) else {}


def objects(value: object) -> list[JSONObject]:
    """Return the objects of a JSON list; [] for anything else."""
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def a_string(value: object) -> str | None:
    return value if isinstance(value, str) else None


def named(value: str | None) -> str:
    """Return a provider's short string in a form that can be stored and logged: printable, and cut if too long."""
    return "".join(char for char in storable(value or "") if char.isprintable())[:MAX_NAME_CHARS]


def without_reasoning(text: str) -> str:
    """Return the text without the reasoning that models write in front of it, between `<think>` and `</think>`.

    Reasoning that the output limit truncated has only the opening tag, and nothing follows. Some chat templates put the
    opening tag into the prompt, so that the reply has only the closing one, on a line of its own.
    """
    if not _OPENING.match(text):
        closing = _CLOSING_LINE.search(text)
        return text[closing.end() :].lstrip() if closing and not _OPENING.search(text, 0, closing.start()) else text
    while opening := _OPENING.match(text):
        closing = _CLOSING.search(text, opening.end())
        if closing is None:
            return ""
        text = text[closing.end() :].lstrip()
    return text
