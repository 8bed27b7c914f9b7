"""Estimate how many tokens a text has, without the model's own vocabulary."""

import re

from llm.errors import PromptTooLong
from llm.types import ResolvedModel

# An upper bound for what a provider adds around a prompt: roles, separators, the date.
FRAME_TOKENS = 64
# Vocabularies have tokens of any length for runs of one character, such as spaces or dashes.
_RUN = re.compile(r"(.)\1{3,}", re.DOTALL)
# Each match has at least one token: no token spans two words, and few are longer than 20 characters or, in Chinese,
# Japanese and Korean, where a character is about one token, and for symbols, longer than four.
_AT_LEAST_ONE = re.compile(r"[!-\u2fff]{1,20}|[\u3001-\U0010ffff]{1,4}")


def estimated_tokens(text: str) -> int:
    """Return an upper bound, for reserving what a prompt can cost: no vocabulary needs more than a token per byte."""
    return len(text.encode(errors="replace")) + FRAME_TOKENS


def fewest_tokens(text: str) -> int:
    """Return a lower bound, for refusing what cannot fit. Real counts are usually much higher."""
    return sum(1 for _ in _AT_LEAST_ONE.finditer(_RUN.sub(r"\1", text)))


def require_fits(model: ResolvedModel, prompt: str) -> None:
    """Raise `PromptTooLong` if the prompt certainly leaves no room for an answer, before a call is paid for."""
    if model.context_window is None:
        return
    tokens = fewest_tokens(prompt)
    if tokens >= model.context_window:
        raise PromptTooLong(model.provider_id, model.model_name, tokens=tokens, window=model.context_window)
