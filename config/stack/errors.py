"""Errors of the embedded servers. This package's messages are in English, since translations may not be set up yet."""

from config.base.errors import SeoGenError


class StackError(SeoGenError):
    """The base class of these errors: a server, a file or a folder of the stack cannot be used."""


class PortTaken(StackError):
    """A fixed port is in use by another program."""

    code = "port_taken"


class NotInstalled(StackError):
    """A part of the embedded stack is missing from this Python environment."""

    code = "not_installed"
