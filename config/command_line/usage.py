"""Look at a command's words before anything is started for it."""

import contextlib
import os
import sys
from collections.abc import Sequence

# Neither is an exit status of argparse.
UNDERSTOOD, NO_SUCH_COMMAND = 0, 3


def check_usage(name: str, spoken: Sequence[str], arguments: Sequence[str]) -> int:
    """Return `UNDERSTOOD`, `NO_SUCH_COMMAND`, or the exit status of the mistake, which has been printed.

    In a forked child: to know a command's options its module is loaded, and with it the settings, which must be read
    after the servers have been started. No thread runs yet.
    """
    child = os.fork()
    if not child:
        _end(_parse(name, spoken, arguments))
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _parse(name: str, spoken: Sequence[str], arguments: Sequence[str]) -> int:
    import django
    from django.core.management import get_commands, load_command_class

    try:
        django.setup()
        app = get_commands().get(name)
        if app is None:
            return NO_SUCH_COMMAND
        command = load_command_class(app, name) if isinstance(app, str) else app
        # Without it argparse's refusal would be an exception.
        command._called_from_command_line = True  # type: ignore[attr-defined]
        command.create_parser(spoken[0], " ".join(spoken[1:])).parse_args([*arguments])
    except SystemExit as ending:
        return ending.code if isinstance(ending.code, int) else 1
    except Exception:
        # A wrong configuration, a broken module: told by the real run, in whose boundary that is.
        return UNDERSTOOD
    return UNDERSTOOD


def _end(status: int) -> None:
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(status)
