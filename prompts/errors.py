"""Refusals and failures around prompts; each names the prompt or the step."""

from config.base.errors import SeoGenError


class PromptError(SeoGenError):
    """Root of this app's errors."""


class UnknownPrompt(PromptError):
    """No prompt has this id in the active tenant's database."""

    code = "prompt_not_found"


class InvalidPrompt(PromptError):
    """The step name, the template or the declared variables cannot be accepted."""

    code = "prompt_invalid"


class PromptMismatch(PromptError):
    """Template and declared variables disagree, so the version can neither become active nor be run."""

    code = "prompt_mismatch"


class PromptRenderError(PromptError):
    """A stored template failed with the values it was given; trying again gives the same."""

    code = "prompt_render_failed"


class SandboxUnavailable(PromptError):
    """The machine, not the template, is why it was not rendered or checked; trying again may help."""

    code = "prompt_sandbox_unavailable"
