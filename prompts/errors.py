"""Errors about prompts; each message names the prompt or the step."""

from config.base.errors import SeoGenError


class PromptError(SeoGenError):
    """Root of this app's errors."""


class UnknownPrompt(PromptError):
    """No prompt has this id in the active tenant's database."""

    code = "prompt_not_found"


class InvalidPrompt(PromptError):
    """The step name, the template or the declared variables are invalid."""

    code = "prompt_invalid"


class PromptMismatch(PromptError):
    """The template and the declared variables disagree, so the version can be neither activated nor used."""

    code = "prompt_mismatch"


class PromptRenderError(PromptError):
    """A stored template failed with the values it was given; a retry would fail in the same way."""

    code = "prompt_render_failed"


class SandboxUnavailable(PromptError):
    """A template was not rendered or checked because of the machine, not the template; a retry may succeed."""

    code = "prompt_sandbox_unavailable"
