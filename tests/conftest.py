"""The session's servers and databases. Tests share them and are not rolled back, so each uses its own ids."""

import gc
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import psutil
import pytest
from pytest_django.plugin import DjangoDbBlocker

from config import stack
from tests.support import alone, environment, privileges
from tests.support.s3 import s3_server as s3_server

TESTS = Path(__file__).parent
# Files that take a quarter of a minute or more, by their processor time with that of their servers and programs.
LONGEST_FIRST = {
    f"{name}.py": place
    for place, name in enumerate(
        (
            *("config/site/frame/test_accessibility", "audit/test_everything_is_audited", "config/site/test_addresses"),
            *("tenants/restore/test_restore_to_time", "tenants/restore/test_foreign_dumps"),
            *("tenants/fleet/test_migrate", "tenants/restore/test_restore_killed", "tenants/erasure/test_delete"),
            *("tenants/fleet/test_migrate_killed", "runs/test_worker", "runs/chaos/test_chaos", "test_upgrade"),
            *("tenants/restore/test_restore", "tenants/erasure/test_delete_killed", "tenants/pitr/test_recover_server"),
            *("tenants/files/test_files_read", "tenants/test_inputs", "tenants/files/test_compatible_s3"),
            *("tenants/erasure/test_delete_canaries", "tenants/backup/test_backup", "runs/messages/test_malformed"),
            *("tenants/pitr/test_verify", "runs/services/test_transition", "tenants/servers/test_lock_holders"),
            *("config/stack/test_stack", "tenants/pitr/test_base_backup", "config/site/test_browser"),
        )
    )
}

_homes: list[stack.Home] = []


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--unit", action="store_true", help="run what is marked `unit`, and start no server")


def pytest_configure(config: pytest.Config) -> None:
    """Start the servers before anything reads the settings, which hold their addresses.

    Start none with `--unit` or `--help`, or if this process only distributes tests.
    """
    if config.option.help:
        return
    _unwind_when_terminated()
    if _only_distributes(config):
        return
    _homes.append(environment.start_nothing() if config.option.unit else environment.start())
    # Not pytest's default, whose modes every session changes: PostgreSQL's account must be able to enter it. Nor
    # pytest-xdist's, since tests link files of one folder into the other.
    if hasattr(config, "workerinput") or not config.option.basetemp:
        config.option.basetemp = str(_homes[0].path / "tmp")
    import django

    django.setup()
    environment.remember()
    _hash_passwords_fast()
    # Fixtures that use models can be imported only now.
    config.pluginmanager.import_plugin("tests.support.tenant_fixtures")
    config.pluginmanager.import_plugin("tests.support.staff")


def _hash_passwords_fast() -> None:
    """Hash staff's passwords in one round: Django's default takes a quarter of a second for every user and login."""
    from django.contrib.auth.hashers import PBKDF2PasswordHasher

    PBKDF2PasswordHasher.iterations = 1


def _only_distributes(config: pytest.Config) -> bool:
    """Return whether this process distributes tests to others (pytest-xdist), each with its own servers."""
    return bool(getattr(config.option, "numprocesses", None)) and not hasattr(config, "workerinput")


def _unwind_when_terminated() -> None:
    """Make SIGTERM end the session like Ctrl-C: stop its servers, and those of the processes that it distributes to."""

    def unwind(number: int, frame: FrameType | None) -> None:
        for child in psutil.Process().children():
            if not _homes:
                child.terminate()
        raise KeyboardInterrupt

    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, unwind)
        # The background jobs of a shell ignore it, and so would the programs that tests start.
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """With `--unit`, skip modules without unit tests."""
    is_tests = collection_path.name.startswith("test_") and collection_path.suffix == ".py"
    return True if config.option.unit and is_tests and "mark.unit" not in collection_path.read_text() else None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    # The others keep their order. Started last, a long file would leave the other processes with nothing to do.
    items.sort(key=lambda item: LONGEST_FIRST.get(item.path.relative_to(TESTS).as_posix(), len(LONGEST_FIRST)))
    if config.option.unit:
        left = [item for item in items if item.get_closest_marker("unit") is None]
        config.hook.pytest_deselected(items=left)
        items[:] = [item for item in items if item not in left]


def pytest_collection_finish() -> None:
    """Keep the garbage collector from searching what stays loaded, which would take a tenth of the session's time."""
    gc.collect()
    gc.freeze()
    # Rendering a page makes many objects, few of them garbage.
    gc.set_threshold(20_000, 20, 20)


def pytest_unconfigure(config: pytest.Config) -> None:
    while _homes:
        environment.remove(_homes.pop())


@pytest.fixture(scope="session", autouse=True)
def contexts_of_pages_alone(django_test_environment: None) -> None:
    """Let the test client keep the context of each page, not a copy for every template that the page includes."""
    from django.template.base import NodeList, Template
    from django.template.context import Context
    from django.test.signals import template_rendered
    from django.utils.safestring import SafeString

    def render(self: Template, context: Context) -> SafeString:
        if context.template is self:
            template_rendered.send(sender=self, template=self, context=context)
        nodes: NodeList = self.nodelist
        return nodes.render(context)

    Template._render = render  # type: ignore[attr-defined]


@pytest.fixture(scope="session")
def stack_home() -> stack.Home:
    """The home whose servers the session uses."""
    return _homes[0]


@pytest.fixture(scope="session")
def django_db_setup(django_db_blocker: DjangoDbBlocker) -> None:
    """Use the stack's control database itself: it is temporary already, and its roles and grants are tested too."""
    from django.core.management import call_command

    with django_db_blocker.unblock():
        call_command("control_setup", verbosity=0)


@pytest.fixture(scope="session")
def logins(stack_home: stack.Home) -> Iterator[privileges.Watch]:
    """Check that the product never logs in as a superuser, and as the administrator only if allowed."""
    watch = privileges.Watch(stack_home)
    yield watch
    assert watch.overstepped() == []
    watch.require_logins()


@pytest.fixture(scope="session", autouse=True)
def databases(request: pytest.FixtureRequest, django_db_blocker: DjangoDbBlocker) -> Iterator[None]:
    """Let tests use databases, without a transaction around each, which would hide changes from other processes."""
    if request.config.option.unit:
        yield
        return
    request.getfixturevalue("django_db_setup")
    with django_db_blocker.unblock():
        yield


@pytest.fixture(autouse=True)
def in_english() -> Iterator[None]:
    """Forget the language of a test's last request, which its thread would keep."""
    yield
    if "django.utils.translation" in sys.modules:
        from django.utils import translation

        translation.deactivate()


@pytest.fixture(autouse=True)
def unit(request: pytest.FixtureRequest, django_db_blocker: DjangoDbBlocker) -> Iterator[None]:
    """Fail tests marked `unit` that start a server or connect to one, even if servers are running."""
    if request.node.get_closest_marker("unit") is None:
        yield
        return
    with alone.without_servers(), django_db_blocker.block():
        yield


@pytest.fixture(autouse=True)
def leaves_nothing_behind(request: pytest.FixtureRequest, databases: None) -> Iterator[None]:
    """Fail the test that leaks or logs in as a forbidden role, and clean up, so that later tests are not affected.

    It is set up before a test's own fixtures and torn down after them: what they clean up is not a leak.
    """
    from tests.support import leaks

    logins = None if request.config.option.unit else request.getfixturevalue("logins")
    yield
    left = leaks.found()
    overstepped = logins.overstepped() if logins else []
    if left:
        leaks.repair()
        pytest.fail(f"The test left something behind: {'; '.join(left)}.", pytrace=False)
    assert overstepped == [], "The product logged in as a role that it must not use."
