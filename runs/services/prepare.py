"""Prepare a claimed step before the model is called; runs in the tenant's context."""

from dataclasses import dataclass, replace

from django.utils.translation import gettext as _

from prompts.rendering import declared_variables, render
from prompts.types import PromptVariable
from runs.config import config_from_document
from runs.errors import DigestMismatch, NoPrompt
from runs.models import Step
from runs.output import decode, same_question
from runs.storage import digest_of, output_path, read, read_unverified
from runs.types import Claim, PinnedPrompt, StepOutput


@dataclass(frozen=True)
class Work:
    """Everything needed to execute a step."""

    prompt_text: str
    # sha256 of `prompt_text`.
    input_digest: str
    prompt: PinnedPrompt
    # The output of an earlier attempt on the same input that was interrupted after writing it; None: call the model.
    finished: StepOutput | None


def prepare(*, alias: str, claim: Claim) -> Work:
    """Render the step's prompt from the run's inputs and earlier outputs, and look for a finished output.

    Raises `PromptError` or `RunError` (both final), `SandboxUnavailable` or `StorageError` (a retry may succeed).
    """
    prompt = claim.prompt
    if prompt is None:
        raise NoPrompt(
            _("Run %(run)s: no prompt is pinned for step %(step)s.") % {"run": claim.run_id, "step": claim.step}
        )
    variables = declared_variables(prompt.variables)
    values = {**config_from_document(claim.config).inputs, **_earlier_outputs(alias, claim, variables)}
    text = render(prompt.content, variables, values, prompt=f"{prompt.id} ({claim.step} v{prompt.version})")
    input_digest = digest_of(text.encode())
    return Work(text, input_digest, prompt, _finished_output(claim, prompt, input_digest))


def _earlier_outputs(alias: str, claim: Claim, variables: tuple[PromptVariable, ...]) -> dict[str, str]:
    """Return the outputs of the run's other steps that the prompt uses, each verified against its digest."""
    used = {variable.name for variable in variables}
    steps = Step.objects.using(alias).filter(run_id=claim.run_id, step__in=used, output_path__isnull=False)
    return {row.step: _text_of(row) for row in steps}


def _text_of(row: Step) -> str:
    output = decode(read(str(row.output_path), row.output_digest))
    if output is None:
        raise DigestMismatch(_("Storage: %(path)s is not a step output.") % {"path": row.output_path})
    return output.text


def _finished_output(claim: Claim, prompt: PinnedPrompt, input_digest: str) -> StepOutput | None:
    """Return the output of an earlier attempt, if it has the same prompt, prompt text and model."""
    content = read_unverified(output_path(claim.run_id, claim.step))
    output = decode(content) if content is not None else None
    if output is None:
        return None
    wanted = replace(
        output,
        run_id=claim.run_id,
        step=claim.step,
        provider=claim.provider,
        model=claim.model,
        prompt_id=prompt.id,
        input_digest=input_digest,
    )
    return output if same_question(output, wanted) else None
