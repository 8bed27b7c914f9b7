"""Check a command's usage before any server is started for it."""

import contextlib
import os
import sys
from collections.abc import Sequence

from config.command_line.refusals import refuse

# For wrong usage, argparse exits with neither.
UNDERSTOOD, NO_SUCH_COMMAND = 0, 3


def check_usage(name: str, spoken: Sequence[str], arguments: Sequence[str]) -> int:
    """Return `UNDERSTOOD`, `NO_SUCH_COMMAND`, or the exit status for wrong usage, which has then been reported.

    Runs in a forked child: parsing needs the command's module, and so the settings, but this process must read the
    settings after the servers have started. No other thread is running yet.
    """
    child = os.fork()
    if not child:
        _end(_parse(name, spoken, arguments))
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _parse(name: str, spoken: Sequence[str], arguments: Sequence[str]) -> int:
    import django
    from django.core.management import get_commands, load_command_class

    from config.base.command import OperatorCommand, Refusal

    try:
        django.setup()
        app = get_commands().get(name)
        if app is None:
            return NO_SUCH_COMMAND
        command = load_command_class(app, name) if isinstance(app, str) else app
        # Without this, a usage error would raise `CommandError`.
        command._called_from_command_line = True  # type: ignore[attr-defined]
        options = vars(command.create_parser(spoken[0], " ".join(spoken[1:])).parse_args([*arguments]))
        if isinstance(command, OperatorCommand):
            command.check_options(options)
    except Refusal as refusal:
        return refuse(refusal, arguments)
    except SystemExit as ending:
        return ending.code if isinstance(ending.code, int) else 1
    except Exception:
        # An invalid configuration or a broken module: the real run will report it.
        return UNDERSTOOD
    return UNDERSTOOD


def _end(status: int) -> None:
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(status)
