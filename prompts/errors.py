"""Errors about prompts."""

from config.base.errors import SeoGenError


class PromptError(SeoGenError):
    """Base class of this app's errors."""


class UnknownPrompt(PromptError):
    """The tenant's database has no prompt with this id, or the step has no such version or no active one."""

    code = "prompt_not_found"


class NoPreviousVersion(PromptError):
    """A step cannot return to the previous version of its prompt: no other version was active before."""

    code = "prompt_previous_missing"


class InvalidPrompt(PromptError):
    """A step name, a template, its variables, a note or another argument is invalid, or a version is not a draft."""

    code = "prompt_invalid"


class PromptChanged(PromptError):
    """Prompts have changed since a copy was previewed, compared or made, so the copy or its undo changes nothing."""

    code = "prompt_changed"


class CopyNotUndone(PromptError):
    """No completed copy of prompts has this id, or the batch is an undo or was already undone."""

    code = "prompt_copy_not_undone"


class UnreadablePromptFile(PromptError):
    """A file with a template or with declarations cannot be read, is too large, or is not UTF-8 text or not JSON."""

    code = "prompt_file_unreadable"


class PromptMismatch(PromptError):
    """The template and the declared variables disagree, so the version cannot be saved, activated or used."""

    code = "prompt_mismatch"


class PromptRenderError(PromptError):
    """A stored template failed with the values it was given; a retry would fail in the same way."""

    code = "prompt_render_failed"


class SandboxUnavailable(PromptError):
    """A template was not rendered or checked because of the machine, not the template; a retry may succeed."""

    code = "prompt_sandbox_unavailable"
