"""Encode and decode `output.json`; derive the artifact's name and the summary of a step's text."""

import json
import re
from dataclasses import asdict
from uuid import UUID

from config.base.json_text import parse_json
from runs.storage import digest_of
from runs.types import StepOutput

SUMMARY_CHARS = 120
# Unicode's category Cc.
CONTROL_CHARACTERS = re.compile(r"[\x00-\x1f\x7f-\x9f]")
# The last step's artifact is the finished article, whatever the step's name.
ARTICLE = "article.md"


def encode(output: StepOutput) -> bytes:
    """Return the content of `output.json`, always the same for the same output."""
    document = {**asdict(output), "run_id": str(output.run_id), "text_digest": digest_of(output.text.encode())}
    return (json.dumps(document, ensure_ascii=False, indent=2) + "\n").encode()


def decode(content: bytes) -> StepOutput | None:
    """Return the output that `encode` wrote; None if `content` is truncated or is not such an output."""
    try:
        document = parse_json(content)
        text_digest = document.pop("text_digest")
        output = StepOutput(**{**document, "run_id": UUID(document["run_id"])})
        return output if digest_of(output.text.encode()) == text_digest else None
    except (ValueError, TypeError, AttributeError, KeyError):
        return None


def same_question(one: StepOutput, other: StepOutput) -> bool:
    """Return whether two outputs have the same run, step, version, provider, model, prompt and rendered prompt text."""
    return _question(one) == _question(other)


def _question(output: StepOutput) -> tuple[object, ...]:
    named = (output.run_id, output.step, output.version)
    return (*named, output.provider, output.model, output.prompt_id, output.input_digest)


def article_name(step: str, *, is_last: bool) -> str:
    """Return the name of the Markdown file that a step writes."""
    return ARTICLE if is_last else f"{step}.md"


def summary_of(text: str) -> str:
    """Return the first line with text, without the Markdown markup around it, cut to `SUMMARY_CHARS` characters."""
    lines = (line.strip("#*->_` \t") for line in text.splitlines())
    first = next((line for line in lines if line), "")
    printable = CONTROL_CHARACTERS.sub("", first)
    return printable if len(printable) <= SUMMARY_CHARS else printable[: SUMMARY_CHARS - 1] + "…"
