"""Errors of the embedded servers. Their messages are in English, since they occur before translations are set up."""

from config.base.errors import SeoGenError


class StackError(SeoGenError):
    """A server cannot be started, found or stopped."""


class PortTaken(StackError):
    """A fixed port is in use by another program."""

    code = "port_taken"


class NotInstalled(StackError):
    """A part of the embedded stack is missing from this Python environment."""

    code = "not_installed"
