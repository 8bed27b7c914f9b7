"""The error of a refused sign-in through the OpenID provider. People see its message; the reason is not shown."""

from config.base.errors import SeoGenError


class OpenIDRefused(SeoGenError):
    """The provider cannot be used, or its response or its account was refused. `reason` is for the audit log."""

    code = "openid_refused"

    def __init__(self, message: str, *, reason: str, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.reason = reason
