"""Errors about prompts; each message names the prompt or the step."""

from config.base.errors import SeoGenError


class PromptError(SeoGenError):
    """Base class of this app's errors."""


class UnknownPrompt(PromptError):
    """No prompt has this id in the active tenant's database."""

    code = "prompt_not_found"


class NoPreviousVersion(PromptError):
    """A step's prompt cannot be rolled back: no other version was active before."""

    code = "prompt_previous_missing"


class InvalidPrompt(PromptError):
    """The step name, the template or the declared variables are invalid."""

    code = "prompt_invalid"


class PromptChanged(PromptError):
    """Another version of a tenant's prompt was activated, so a copy or its undo does not change it."""

    code = "prompt_changed"


class CopyNotUndone(PromptError):
    """No completed copy of prompts has this id, or it has already been undone, or it is itself an undo."""

    code = "prompt_copy_not_undone"


class UnreadablePromptFile(PromptError):
    """A file with a template or with declarations cannot be read, or is not what it should be."""

    code = "prompt_file_unreadable"


class PromptMismatch(PromptError):
    """The template and the declared variables disagree, so the version can be neither activated nor used."""

    code = "prompt_mismatch"


class PromptRenderError(PromptError):
    """A stored template failed with the values it was given; a retry would fail in the same way."""

    code = "prompt_render_failed"


class SandboxUnavailable(PromptError):
    """A template was not rendered or checked because of the machine, not the template; a retry may succeed."""

    code = "prompt_sandbox_unavailable"
