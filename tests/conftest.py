"""The session's servers and databases. Tests share them, are not rolled back, and so use ids of their own."""

from collections.abc import Iterator

import pytest
from pytest_django.plugin import DjangoDbBlocker

from config import stack
from tests import environment, privileges
from tests.s3 import s3_server as s3_server

_homes: list[stack.Home] = []


def pytest_configure(config: pytest.Config) -> None:
    """Start the servers before anything reads the settings, which hold their addresses."""
    if config.option.help or _only_distributes(config):
        return
    _homes.append(environment.start())
    # Not pytest's default, whose modes every session changes: PostgreSQL's account must be able to enter.
    config.option.basetemp = config.option.basetemp or str(_homes[0].path / "tmp")
    import django

    django.setup()
    # Only now can fixtures be imported that use models.
    config.pluginmanager.import_plugin("tests.tenant_fixtures")


def _only_distributes(config: pytest.Config) -> bool:
    """Tell whether this process hands the tests to others (pytest-xdist), each of which has servers of its own."""
    return bool(getattr(config.option, "numprocesses", None)) and not hasattr(config, "workerinput")


def pytest_unconfigure(config: pytest.Config) -> None:
    while _homes:
        environment.remove(_homes.pop())


@pytest.fixture(scope="session")
def stack_home() -> stack.Home:
    """The home whose servers the session uses."""
    return _homes[0]


@pytest.fixture(scope="session")
def django_db_setup(django_db_blocker: DjangoDbBlocker) -> None:
    """Use the stack's control database itself: it is temporary already, and roles and grants belong to the test."""
    from django.core.management import call_command

    with django_db_blocker.unblock():
        call_command("control_setup", verbosity=0)


@pytest.fixture(scope="session")
def logins(stack_home: stack.Home) -> Iterator[privileges.Watch]:
    """Watch the whole session: the product logs in as no superuser, and as the administrator where it belongs."""
    watch = privileges.Watch(stack_home)
    yield watch
    assert watch.overstepped() == []
    watch.require_logins()


@pytest.fixture(scope="session", autouse=True)
def databases(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[None]:
    """Every test may use databases; none is wrapped in a transaction, which would hide what other processes do."""
    with django_db_blocker.unblock():
        yield


@pytest.fixture(autouse=True)
def leaves_nothing_behind(databases: None, logins: privileges.Watch) -> Iterator[None]:
    """Fail the test that leaks, not those after it: they begin as they should, whatever came before.

    The first fixture of every test, so that it is ended last: what the others take back is no leak.
    """
    from tests import leaks

    yield
    left = leaks.found()
    overstepped = logins.overstepped()
    if left:
        leaks.repair()
        pytest.fail(f"The test left something behind: {'; '.join(left)}.", pytrace=False)
    assert overstepped == [], "The product logged in as somebody whom it must not be."
