"""Prepare a claimed step before the model is called; runs in the tenant's context."""

from dataclasses import dataclass, replace

from django.utils.translation import gettext as _

from prompts.rendering import declared_variables, render_with_cache_points
from prompts.types import PromptVariable
from runs.config import REVIEW_COMMENT, config_from_document
from runs.errors import DigestMismatch, NoPrompt
from runs.output import decode, same_question
from runs.steps.rows import earlier_outputs
from runs.storage import digest_of, output_path, read, read_unverified
from runs.types import Claim, PinnedPrompt, StepOutput


@dataclass(frozen=True)
class Work:
    """Everything needed to execute a step."""

    prompt_text: str
    # Lengths, in characters, of the beginnings of the text that another step's prompt may share.
    cache_points: tuple[int, ...]
    # sha256 of `prompt_text`.
    input_digest: str
    prompt: PinnedPrompt
    # The output of an earlier attempt on the same input that was interrupted after writing it; None: call the model.
    finished: StepOutput | None


def prepare(*, alias: str, claim: Claim) -> Work:
    """Render the step's prompt from the run's inputs and earlier outputs, and look for a finished output.

    Raises `SandboxUnavailable` or `StorageError` (a retry may succeed), or another `PromptError` or a `RunError` (both
    final).
    """
    prompt = claim.prompt
    if prompt is None:
        raise NoPrompt(
            _("Run %(run)s: no prompt is pinned for step %(step)s.") % {"run": claim.run_id, "step": claim.step}
        )
    variables = declared_variables(prompt.variables)
    inputs = config_from_document(claim.config).inputs
    values = {**inputs, **_earlier_outputs(alias, claim, variables), REVIEW_COMMENT: claim.review_comment or ""}
    named = f"{prompt.id} ({claim.step} v{prompt.version})"
    rendered = render_with_cache_points(prompt.content, variables, values, prompt=named)
    input_digest = digest_of(rendered.text.encode())
    finished = _finished_output(claim, prompt, input_digest)
    return Work(rendered.text, rendered.cache_points, input_digest, prompt, finished)


def _earlier_outputs(alias: str, claim: Claim, variables: tuple[PromptVariable, ...]) -> dict[str, str]:
    """Return the outputs of the run's other steps that the prompt uses, each verified against its digest."""
    used = {variable.name for variable in variables} - {REVIEW_COMMENT, *config_from_document(claim.config).inputs}
    if not used:
        return {}
    return {step: _text_of(path, digest) for step, path, digest in earlier_outputs(alias, claim, used)}


def _text_of(path: str, digest: str | None) -> str:
    output = decode(read(path, digest))
    if output is None:
        raise DigestMismatch(_("Storage: %(path)s is not a step output.") % {"path": path})
    return output.text


def _finished_output(claim: Claim, prompt: PinnedPrompt, input_digest: str) -> StepOutput | None:
    """Return the output of an earlier attempt with the same prompt, prompt text and model; None if there is none."""
    content = read_unverified(output_path(claim.run_id, claim.step))
    output = decode(content) if content is not None else None
    if output is None:
        return None
    wanted = replace(
        output,
        run_id=claim.run_id,
        step=claim.step,
        version=claim.version,
        provider=claim.provider,
        model=claim.model,
        prompt_id=prompt.id,
        input_digest=input_digest,
    )
    return output if same_question(output, wanted) else None
