"""The embedded stack: PostgreSQL, Valkey and an LLM server from Python wheels. The environment can name others instead.

State lives under ``$SEO_GEN_HOME``, or ``var`` in the checkout. This package does not import Django, since it
runs before the settings, which read the variables that it supplies.
"""

from config.stack.environment import settings_from_stack
from config.stack.errors import StackError
from config.stack.lifecycle import NAMES, NAMES_WITH_PORT, ServiceStatus, ensure_started, start, status, stop
from config.stack.paths import Home, find_home

__all__ = [
    "NAMES",
    "NAMES_WITH_PORT",
    "Home",
    "ServiceStatus",
    "StackError",
    "ensure_started",
    "find_home",
    "settings_from_stack",
    "start",
    "status",
    "stop",
]
