"""Values from the environment are taken literally and never quoted in an error."""

import json
import os
import sys
from pathlib import Path

import pytest
from django.core.exceptions import ImproperlyConfigured

from config import stack
from config.base.environment import LiteralEnv
from config.stack.paths import CHECKOUT
from config.stack.process import wait_until
from tests.support import preloaded, program

PATIENCE_S = 60.0


def reading(**environment: str) -> LiteralEnv:
    env = LiteralEnv()
    env.ENVIRON = environment
    return env


def settings_of(names: list[str], home: stack.Home, **environment: str) -> dict[str, object]:
    """Return the named settings of a process with this environment."""
    script = "import json, sys; from django.conf import settings; "
    script += "print(json.dumps({name: getattr(settings, name) for name in sys.argv[1:]}))"
    shown = preloaded.run(
        [sys.executable, "-c", script, *names],
        cwd=CHECKOUT,
        env={**os.environ, "SEO_GEN_HOME": str(home.path), **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    document: dict[str, object] = json.loads(shown.stdout)
    return document


def test_a_dollar_sign_is_a_dollar_sign(stack_home: stack.Home) -> None:
    given = {
        "SECRET_KEY": "$a9x-and-more",
        "AWS_SECRET_ACCESS_KEY": "$ecretKey123",
        "BACKUP_DAILY_OUTPUT": "$HOME_BK",
        "AUDIT_ANCHOR_OUTPUT": r"\$anchors",
        "TENANT_SERVER_WAL_ARCHIVE": "$$",
    }
    names = ["SECRET_KEY", "AWS_SECRET_ACCESS_KEY", "BACKUP_DAILY_OUTPUT", "AUDIT_ANCHOR_OUTPUT"]
    assert settings_of(names, stack_home, **given) == {name: given[name] for name in names}


@pytest.mark.parametrize("value", ["$SECRET", "$", "$$", r"\$x", "a$b", "${x}"])
@pytest.mark.parametrize("read", ["str", "list"])
def test_no_value_stands_for_another_variable(read: str, value: str) -> None:
    env = reading(X=value, SECRET="other", x="other")
    assert getattr(env, read)("X") == ([value] if read == "list" else value)


def test_a_password_of_dollar_signs_reaches_the_database() -> None:
    assert reading(X="postgresql://u:$a$b@h:5432/n").db_url("X")["PASSWORD"] == "$a$b"


def test_blanks_around_commas_are_dropped_in_every_list(stack_home: stack.Home) -> None:
    keys = stack.settings_from_stack(stack_home)["SEO_GEN_ENCRYPTION_KEYS"]
    shown = settings_of(
        ["ALLOWED_HOSTS", "CSRF_TRUSTED_ORIGINS", "ENCRYPTION_KEYS"],
        stack_home,
        ALLOWED_HOSTS="localhost, admin.example.com ,",
        CSRF_TRUSTED_ORIGINS=" https://a.example , https://b.example",
        SEO_GEN_ENCRYPTION_KEYS=f" {keys} , ",
    )
    assert shown == {
        "ALLOWED_HOSTS": ["localhost", "admin.example.com"],
        "CSRF_TRUSTED_ORIGINS": ["https://a.example", "https://b.example"],
        "ENCRYPTION_KEYS": [keys],
    }


@pytest.mark.parametrize(
    ("read", "value", "problem"),
    [
        ("bool", "hunter2", "is not true or false"),
        ("db_url", "postgresql://u:hunter2/x@h:5432/n", "is not a valid database URL"),
        ("db_url", "hunter2", "is not a valid database URL"),
        ("db_url", "mysql://u:hunter2@h/n", "is not a valid database URL"),
        ("address", "hunter2", "is not a valid URL"),
        ("address", "redis://:hunter2/x@h:6379/0", "is not a valid URL"),
        ("address", "redis://:1/hunter2@h:6379/0", "is not a valid URL"),
        ("address", "amqp://u:hunter2#x@h//", "is not a valid URL"),
        ("address", "redis://:hunter2@h:bad/0", "is not a valid URL"),
        ("address", "sentinel://h:26379;sentinel://:hunter2?x@h:26379", "is not a valid URL"),
        ("address", "http://u:hunter2@[h/v1", "is not a valid URL"),
    ],
)
def test_a_wrong_value_is_reported_by_its_variable_alone(read: str, value: str, problem: str) -> None:
    with pytest.raises(ImproperlyConfigured) as refusal:
        getattr(reading(X=value), read)("X")
    assert str(refusal.value).startswith(f"The environment variable X {problem}")
    assert "hunter2" not in str(refusal.value)
    # Nor would a traceback show it.
    assert refusal.value.__cause__ is None
    assert refusal.value.__suppress_context__


@pytest.mark.parametrize(
    ("read", "value", "problem"),
    [
        ("whole_number", "hunter2", "is not a whole number"),
        ("whole_number", "1.5", "is not a whole number"),
        ("whole_number", "0", "must be between 1 and 10"),
        ("whole_number", "-1", "must be between 1 and 10"),
        ("whole_number", "11", "must be between 1 and 10"),
        ("number", "hunter2", "is not a number"),
        ("number", "0.9", "must be between 1 and 10"),
        ("number", "10.1", "must be between 1 and 10"),
        ("number", "inf", "must be between 1 and 10"),
        ("number", "nan", "must be between 1 and 10"),
    ],
)
def test_a_number_has_limits(read: str, value: str, problem: str) -> None:
    with pytest.raises(ImproperlyConfigured) as refusal:
        getattr(reading(X=value), read)("X", default=5, least=1, most=10)
    assert str(refusal.value).removeprefix("The environment variable ") == f"X {problem}"
    assert refusal.value.__suppress_context__ or refusal.value.__context__ is None
    assert getattr(reading(X="10"), read)("X", default=5, least=1, most=10) == 10
    assert getattr(reading(X=""), read)("X", default=5, least=1, most=10) == 5


@pytest.mark.parametrize(
    ("variable", "value", "problem"),
    [
        ("BACKUP_RETENTION_DAYS", "-1", "BACKUP_RETENTION_DAYS must be between 0 and 36500"),
        (
            "BUDGET_WARNING_PERCENT",
            "nan",
            "BUDGET_WARNING_PERCENT must be between 0.1 and 100",
        ),
        ("BACKUP_DAILY_HOUR", "24", "BACKUP_DAILY_HOUR must be between 0 and 23"),
        (
            "RUN_TENANT_CONCURRENCY",
            "0",
            "RUN_TENANT_CONCURRENCY must be between 1 and 1000000000",
        ),
        ("LLM_BREAKER_OPEN_S", "-1", "LLM_BREAKER_OPEN_S must be between 0.1 and 1000000000"),
        ("SECOND_FACTOR", "on", "SECOND_FACTOR must be off, optional or required"),
        ("LANGUAGE_CODE", "fr", "LANGUAGE_CODE must be en or ja"),
        ("TIME_ZONE", "Mars/Olympus", "TIME_ZONE must be a time zone of this machine, such as Asia/Tokyo"),
        ("TIME_ZONE", "Asia", "TIME_ZONE must be a time zone of this machine, such as Asia/Tokyo"),
        (
            "TWO_PERSON_OPERATIONS",
            "export, delet",
            "TWO_PERSON_OPERATIONS must be a list of some of delete, export, prompt-copy-all, price-by-hand, separated"
            " by commas",
        ),
    ],
)
def test_every_command_refuses_what_a_setting_cannot_be(
    variable: str, value: str, problem: str, stack_home: stack.Home
) -> None:
    told = program.seo_gen("tenant", "list", SEO_GEN_HOME=str(stack_home.path), **{variable: value})
    assert (told.returncode, told.stdout) == (1, "")
    assert told.stderr == f"The configuration is invalid: {problem}\n"


@pytest.mark.parametrize(
    "value",
    [
        "redis://:s%2Fcret@h:6379/0",
        "rediss://h/0?ssl_cert_reqs=required",
        "redis+socket:///run/redis.sock?virtual_host=0",
        "amqp://u:p@h//",
        "sentinel://h:26379;sentinel://i:26379",
        "redis://:a,b@h:6379,redis://i:6379",
        "sqs://key:secret@",
        "http://[::1]:8080/v1",
        "",
    ],
)
def test_every_address_that_celery_or_a_client_takes_is_taken(value: str) -> None:
    assert reading(X=value).address("X") == value


@pytest.mark.parametrize("variable", ["CELERY_BROKER_URL", "CACHE_URL", "LOCAL_LLM_URL"])
def test_a_wrong_address_of_another_server_shows_nothing_of_its_password(variable: str) -> None:
    refused = program.seo_gen("tenant", "list", **{variable: "redis://:hunt/er2@h:6379/0"})
    assert (refused.returncode, refused.stderr) == (
        1,
        f"The configuration is invalid: The environment variable {variable} is not a valid URL (special characters in"
        " the password must be percent-encoded)\n",
    )


def test_a_wrong_address_is_one_sentence_of_the_command(stack_home: stack.Home) -> None:
    keys = {name: stack.settings_from_stack(stack_home)[name] for name in ("SECRET_KEY", "SEO_GEN_ENCRYPTION_KEYS")}
    refused = program.seo_gen(
        "tenant", "list", SEO_GEN_HOME=str(stack_home.path), DATABASE_URL="postgresql://u:hunt/er2@h:5432/n", **keys
    )
    assert refused.returncode == 1
    assert refused.stderr.startswith("The configuration is invalid: The environment variable DATABASE_URL is not a ")
    assert "hunt" not in refused.stderr
    assert len(refused.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("value", "expected"), [("true", True), ("On", True), ("1", True), ("no", False), ("0", False), ("off", False)]
)
def test_words_for_true_and_false(value: str, expected: bool) -> None:
    assert reading(X=value).bool("X") is expected


def test_a_number_that_is_set_to_nothing_is_unset() -> None:
    assert reading(X="").int("X", default=7) == 7
    assert reading(X="").str("X", default="else") == ""


def test_beat_makes_the_home_that_it_is_the_first_to_use(stack_home: stack.Home, tmp_path: Path) -> None:
    home = tmp_path / "not" / "there"
    environment = {**os.environ, **stack.settings_from_stack(stack_home), "SEO_GEN_HOME": str(home)}
    log = tmp_path / "beat.log"
    with log.open("wb") as output:
        beat = preloaded.Popen(
            [sys.executable, "-m", "celery", "-A", "config.celery", "beat", "--loglevel", "INFO", "--pidfile="],
            cwd=CHECKOUT,
            env=environment,
            stdout=output,
            stderr=output,
        )
    try:
        started = wait_until(lambda: any(home.glob("celerybeat-schedule*")) or beat.poll() is not None, PATIENCE_S)
        assert started and beat.poll() is None, log.read_text()
    finally:
        beat.kill()
        beat.wait()
