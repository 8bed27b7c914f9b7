"""The only parameters that an administrator's URL may have are TLS settings; libpq's other parameters are refused."""

from __future__ import annotations

import pytest
from django.conf import settings
from django.core.management import CommandError, call_command

from tenants.models import DatabaseServer
from tenants.servers.admin_url import TLS_PARAMETERS, ServerURLRefused, require_server_url

PLAIN = "postgresql://admin:sesame@db.example.com:5432/postgres"
# libpq's own list ("Parameter Key Words" in PostgreSQL's manual), except those about TLS.
OTHERS = (
    *("host", "hostaddr", "port", "dbname", "user", "password", "passfile", "service", "servicefile", "options"),
    *("require_auth", "connect_timeout", "client_encoding", "application_name", "fallback_application_name"),
    *("keepalives", "tcp_user_timeout", "replication", "gssencmode", "sslcompression", "sslpassword", "sslcertmode"),
    *("sslcrldir", "sslsni", "requirepeer", "krbsrvname", "gsslib", "target_session_attrs", "load_balance_hosts"),
    *("oauth_issuer", "scram_client_key", "sslkeylogfile", "requiressl", "nonsense"),
)


@pytest.mark.parametrize(
    "url",
    [
        PLAIN,
        "postgres://admin@db/postgres",
        "postgresql://admin:p%40ss%23@[::1]:5432/postgres",
        f"{PLAIN}?sslmode=verify-full&sslrootcert=/etc/ssl/ca.pem&channel_binding=require",
        *(f"{PLAIN}?{name}=x" for name in TLS_PARAMETERS),
    ],
)
def test_user_host_and_tls_parameters_are_accepted(url: str) -> None:
    require_server_url(url)


@pytest.mark.parametrize("name", OTHERS)
@pytest.mark.parametrize(
    "form", ["{url}?{name}=x", "{url}?sslmode=require&{name}=x", "{url}?{name}", "{url}?{coded}=x"]
)
def test_every_other_parameter_is_refused(name: str, form: str) -> None:
    coded = f"%{ord(name[0]):02x}{name[1:]}"
    with pytest.raises(ServerURLRefused, match=f"contains an unsupported parameter: {name}") as refusal:
        require_server_url(form.format(url=PLAIN, name=name, coded=coded))
    assert "sslmode" in refusal.value.hint and "sesame" not in str(refusal.value)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("mysql://admin:sesame@db/postgres", "must start with postgresql://"),
        ("host=db password=sesame", "must start with postgresql://"),
        ("postgresql://admin:sesa me@db/postgres", "a space"),
        ("postgresql://admin:sesame@db/postgres?sslmode=require#&host=x", "a space, a #"),
        ("postgresql://admin:sesame@db/postgres?sslmode=require\n&ho\nst=x", "control character"),
        ("postgresql://admin:sesa%zzme@db/postgres", "must be followed by two hexadecimal digits"),
        ("postgresql:///postgres", "has no valid host"),
        ("postgresql://admin:sesame@/postgres", "has no valid host"),
        ("postgresql://admin:sesame@[::1/postgres", "has no valid host"),
        # What looks like a parameter may be a password with a "?" in it.
        ("postgresql://admin:se?Same!word=1@db/postgres", r"contains an unsupported parameter: \*{4}"),
    ],
)
def test_a_malformed_url_is_refused_and_not_repeated(url: str, message: str) -> None:
    with pytest.raises(ServerURLRefused, match=message) as refusal:
        require_server_url(url)
    assert "esame" not in str(refusal.value) and "Same!word" not in str(refusal.value)


def test_control_setup_refuses_it_and_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    before = DatabaseServer.objects.get(pk="main").admin_url
    monkeypatch.setattr(settings, "TENANT_SERVER_URL", f"{before}?service=elsewhere")
    with pytest.raises(CommandError, match="contains an unsupported parameter: service"):
        call_command("control_setup")
    assert DatabaseServer.objects.get(pk="main").admin_url == before
