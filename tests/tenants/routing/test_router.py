import pytest
from django.apps import apps
from django.db import connections

from audit.control.models import ControlAuditLog
from audit.models import AuditLog
from llm.models import LLMProvider
from prompts.models import Prompt
from runs.models import Run, Step
from tenants.errors import NoActiveTenant, WrongTenantActive
from tenants.models import Tenant
from tenants.routing.context import tenant_context
from tenants.routing.router import TENANT_APPS, TenantRouter

TENANT_MODELS = [model for label in sorted(TENANT_APPS) for model in apps.get_app_config(label).get_models()]
CONTROL_MODELS = [model for model in apps.get_models() if model._meta.app_label not in TENANT_APPS]
router = TenantRouter()


@pytest.mark.parametrize("model", TENANT_MODELS)
def test_a_tenants_model_without_a_tenant_raises_and_never_falls_through(model: type) -> None:
    with pytest.raises(NoActiveTenant, match=model.__name__):
        router.db_for_read(model)
    with pytest.raises(NoActiveTenant, match=model.__name__):
        router.db_for_write(model)


@pytest.mark.parametrize("model", TENANT_MODELS)
def test_a_tenants_model_goes_to_the_active_tenant(model: type, tenant: Tenant) -> None:
    with tenant_context(tenant):
        assert router.db_for_read(model) == router.db_for_write(model) == f"tenant:{tenant.id}"


@pytest.mark.parametrize("model", CONTROL_MODELS)
def test_everything_else_stays_in_the_control_database(model: type, tenant: Tenant) -> None:
    with tenant_context(tenant):
        assert router.db_for_read(model) == router.db_for_write(model) == "default"


@pytest.mark.parametrize("app", [config.label for config in apps.get_app_configs()])
def test_migrations_are_allowed_on_exactly_one_side(app: str) -> None:
    for alias in ("tenant:a", "owner:a"):
        assert router.allow_migrate(alias, app) is (app in TENANT_APPS)
    for alias in ("default", "control-owner", "anything"):
        assert router.allow_migrate(alias, app) is (app not in TENANT_APPS)


def test_no_relation_crosses_databases() -> None:
    for model in TENANT_MODELS + CONTROL_MODELS:
        for field in model._meta.get_fields():
            if field.is_relation and field.related_model is not None:
                sides = {side._meta.app_label in TENANT_APPS for side in (model, field.related_model)}
                assert len(sides) == 1, f"{model.__name__}.{field.name}"


def test_relations_are_allowed_inside_one_database_only() -> None:
    run_a, run_b, step = Run(), Run(), Step()
    run_a._state.db, run_b._state.db = "tenant:a", "tenant:b"
    assert router.allow_relation(run_a, step)
    assert not router.allow_relation(run_a, run_b)
    assert not router.allow_relation(run_a, LLMProvider())
    assert router.allow_relation(LLMProvider(), ControlAuditLog())


def test_the_control_database_holds_no_tenant_table_and_the_tenants_no_control_table(tenant: Tenant) -> None:
    control = set(connections["default"].introspection.table_names())
    with tenant_context(tenant) as alias:
        own = set(connections[alias].introspection.table_names())
    assert own == {model._meta.db_table for model in TENANT_MODELS if model._meta.managed} | {"django_migrations"}
    assert control & own == {"django_migrations"}


def test_an_object_of_one_tenant_cannot_be_used_while_another_is_active(tenant_pair: tuple[Tenant, Tenant]) -> None:
    first, second = tenant_pair
    with tenant_context(first) as alias:
        prompt = Prompt.objects.using(alias).first()
        assert prompt is not None
    for use in (prompt.refresh_from_db, prompt.save, prompt.delete):
        with tenant_context(second), pytest.raises(WrongTenantActive, match=f"tenant:{first.id}.*tenant:{second.id}"):
            use()
    with pytest.raises(NoActiveTenant):
        AuditLog.objects.using(alias).count()
