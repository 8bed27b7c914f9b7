"""What a claimed step needs before the model is asked; read inside the tenant's context."""

from dataclasses import dataclass

from django.utils.translation import gettext as _

from prompts.models import Prompt
from prompts.rendering import declared_variables, render
from prompts.selectors import prompt_get
from prompts.types import PromptVariable
from runs.config import config_from_document
from runs.errors import DigestMismatch
from runs.models import Run, Step
from runs.output import decode
from runs.storage import digest_of, output_path, read, read_unverified
from runs.types import Claim, StepOutput


@dataclass(frozen=True)
class Work:
    """A step about to be done."""

    prompt_text: str
    # sha256 of `prompt_text`.
    input_digest: str
    prompt_version: int
    # What an earlier attempt at the same input wrote before it was cut off; None: ask the model.
    finished: StepOutput | None


def prepare(*, alias: str, claim: Claim) -> Work:
    """Render the step's prompt from the run's inputs and the earlier outputs, and look for a finished output.

    Raises `PromptError`, `DigestMismatch`, `MissingFile` (all final) or `StorageError` (another attempt may succeed).
    """
    prompt = prompt_get(alias=alias, prompt_id=claim.prompt_id)
    variables = declared_variables(prompt.variables)
    run = Run.objects.using(alias).get(pk=claim.run_id)
    values = {**config_from_document(run.config).inputs, **_earlier_outputs(alias, claim, variables)}
    text = render(prompt.content, variables, values, prompt=f"{prompt.pk} ({prompt})")
    input_digest = digest_of(text.encode())
    return Work(text, input_digest, prompt.version, _finished_output(claim, prompt, input_digest))


def _earlier_outputs(alias: str, claim: Claim, variables: tuple[PromptVariable, ...]) -> dict[str, str]:
    """Return the texts of the run's other steps that the prompt uses, each checked against its digest."""
    used = [variable.name for variable in variables]
    steps = Step.objects.using(alias).filter(run_id=claim.run_id, step__in=used, output_path__isnull=False)
    return {row.step: _text_of(row) for row in steps}


def _text_of(row: Step) -> str:
    output = decode(read(str(row.output_path), row.output_digest))
    if output is None:
        raise DigestMismatch(_("Storage: %(path)s is no step's output.") % {"path": row.output_path})
    return output.text


def _finished_output(claim: Claim, prompt: Prompt, input_digest: str) -> StepOutput | None:
    """Return the output that an earlier attempt left, if it answers this very prompt by this very model."""
    content = read_unverified(output_path(claim.run_id, claim.step))
    output = decode(content) if content is not None else None
    if output is None:
        return None
    expected = (claim.run_id, claim.step, claim.provider, claim.model, prompt.pk, input_digest)
    found = (output.run_id, output.step, output.provider, output.model, output.prompt_id, output.input_digest)
    return output if found == expected else None
