"""Errors of the embedded servers. This package's messages are in English, since translations may not be set up yet."""

from config.base.errors import SeoGenError


class StackError(SeoGenError):
    """The stack cannot do what was asked. The base class of the errors of this package."""


class PortTaken(StackError):
    """A fixed port is in use by another program."""

    code = "port_taken"


class NotInstalled(StackError):
    """A part of the embedded stack is missing from this Python environment."""

    code = "not_installed"
