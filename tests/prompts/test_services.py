"""How versions of prompts are created, activated and used, and what the database itself refuses."""

import threading

import pytest
from django.db import DatabaseError, IntegrityError, connections, transaction
from django.db.models import QuerySet

from audit.log.actor import acting_as
from audit.models import AuditLog
from prompts.errors import InvalidPrompt, NoPreviousVersion, PromptMismatch, UnknownPrompt
from prompts.models import Prompt
from prompts.selectors import active_prompts
from prompts.services import (
    prompt_activate,
    prompt_activate_previous,
    prompt_create,
    prompt_create_active,
    prompt_mark_used,
)
from tenants.models import Tenant
from tenants.routing.context import tenant_context
from tests.audit.audited import REFUSAL, log_refused

KEYWORD: dict[str, object] = {"name": "keyword", "type": "string", "required": True}


def new_version(alias: str, content: str = "{{ keyword }}", step: str = "draft") -> Prompt:
    return prompt_create(alias=alias, step=step, content=content, variables=[KEYWORD], note="why")


def versions(alias: str) -> QuerySet[Prompt]:
    """Return all versions of the prompt of the step "draft", newest first."""
    return Prompt.objects.using(alias).filter(step="draft").order_by("-version")


def test_a_new_version_follows_the_last_one_and_is_inactive(tenant: Tenant) -> None:
    with tenant_context(tenant) as alias, acting_as("operator:ann"):
        prompt = new_version(alias)
        assert (prompt.version, prompt.is_active, prompt.variables) == (2, False, [KEYWORD])
        entry = AuditLog.objects.using(alias).get(action="prompt.create")
        assert entry.details is not None
        assert (entry.user_id, entry.resource_id, entry.details["version"]) == ("operator:ann", str(prompt.pk), 2)
        assert "content" not in entry.details


def test_activating_moves_the_pointer_and_is_audited(tenant: Tenant) -> None:
    with tenant_context(tenant) as alias:
        prompt = new_version(alias)
        prompt_activate(alias=alias, prompt_id=prompt.pk)
        assert active_prompts(alias=alias, steps=["draft"])["draft"] == prompt
        assert list(versions(alias).values_list("is_active", flat=True)) == [True, False]
        entry = AuditLog.objects.using(alias).get(action="prompt.activate")
        assert entry.details is not None
        assert (entry.details["version"], entry.details["previous_version"]) == (2, 1)


def test_activating_the_active_version_changes_nothing(tenant: Tenant) -> None:
    with tenant_context(tenant) as alias:
        active = active_prompts(alias=alias, steps=["draft"])["draft"]
        assert prompt_activate(alias=alias, prompt_id=active.pk) == active
        assert not AuditLog.objects.using(alias).filter(action="prompt.activate").exists()


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("{{ keyword }} {{ tone }}", "it uses undeclared variables: tone"),
        ("plain", "it does not use declared variables: keyword"),
        ("{{ tone }}", "it uses undeclared variables (tone) and does not use declared ones (keyword)"),
    ],
)
def test_a_version_whose_declaration_disagrees_is_not_activated(tenant: Tenant, content: str, problem: str) -> None:
    with tenant_context(tenant) as alias:
        # As earlier releases stored them.
        prompt = new_version(alias)
        Prompt.objects.using(alias).filter(pk=prompt.pk).update(content=content)
        with pytest.raises(PromptMismatch) as caught:
            prompt_activate(alias=alias, prompt_id=prompt.pk)
        assert str(caught.value) == f"Prompt {prompt.pk} (draft v2) cannot be used: {problem}."
        assert active_prompts(alias=alias, steps=["draft"])["draft"].version == 1


@pytest.mark.parametrize(
    ("step", "content", "problem"),
    [
        (
            "Draft!",
            "x",
            "'Draft!' is not a step name: use at most 63 lower-case letters, digits and _, and start with a letter.",
        ),
        ("draft", "  \n", "The template is empty."),
        ("draft", "{% x", "The template is not valid Jinja2: Encountered unknown tag 'x'."),
        ("draft", "a\x00b", "The template contains a NUL character."),
        ("draft", "x" * 65537, "The template is longer than 65536 characters."),
    ],
)
def test_an_invalid_prompt_is_refused_in_one_sentence(tenant: Tenant, step: str, content: str, problem: str) -> None:
    with tenant_context(tenant) as alias:
        with pytest.raises(InvalidPrompt) as caught:
            prompt_create(alias=alias, step=step, content=content, variables=None, note="why")
        assert str(caught.value).replace(" (line 1)", "") == problem
        assert Prompt.objects.using(alias).count() == 4


def test_an_unknown_prompt_is_named(tenant: Tenant) -> None:
    with tenant_context(tenant) as alias, pytest.raises(UnknownPrompt, match=r"There is no prompt 999999\."):
        prompt_activate(alias=alias, prompt_id=999999)


def test_the_database_allows_one_active_version_per_step(tenant: Tenant) -> None:
    with tenant_context(tenant) as alias:
        prompt = new_version(alias)
        with pytest.raises(IntegrityError, match="prompts_one_active_per_step"), transaction.atomic(using=alias):
            Prompt.objects.using(alias).filter(pk=prompt.pk).update(is_active=True)


@pytest.mark.parametrize("column", ["content", "step", "version", "variables", "used_at"])
def test_the_database_refuses_changes_to_a_used_version(tenant: Tenant, column: str) -> None:
    changes = {"content": "other", "step": "other", "version": 99, "variables": [], "used_at": None}
    with tenant_context(tenant) as alias:
        prompt = new_version(alias)
        prompt_mark_used(alias=alias, prompt_ids=[prompt.pk])
        with pytest.raises(DatabaseError, match="has been used and cannot be changed"):
            Prompt.objects.using(alias).filter(pk=prompt.pk).update(**{column: changes[column]})
        assert Prompt.objects.using(alias).get(pk=prompt.pk).content == "{{ keyword }}"


def test_a_used_version_can_be_activated_but_not_deleted(tenant: Tenant) -> None:
    with tenant_context(tenant) as alias:
        prompt = new_version(alias)
        prompt_mark_used(alias=alias, prompt_ids=[prompt.pk])
        prompt_activate(alias=alias, prompt_id=prompt.pk)
        with pytest.raises(DatabaseError, match="has been used and cannot be deleted"):
            Prompt.objects.using(alias).filter(pk=prompt.pk).delete()


def test_an_unused_version_can_be_changed_and_deleted(tenant: Tenant) -> None:
    with tenant_context(tenant) as alias:
        prompt = new_version(alias)
        Prompt.objects.using(alias).filter(pk=prompt.pk).update(content="other")
        assert Prompt.objects.using(alias).filter(pk=prompt.pk).delete()[0] == 1


def test_concurrent_creations_each_get_a_version(tenant: Tenant) -> None:
    versions: list[int] = []

    def create() -> None:
        with tenant_context(tenant) as alias:
            versions.append(new_version(alias, step="brand_new").version)
        connections["default"].close()

    threads = [threading.Thread(target=create) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(versions) == [1, 2, 3, 4, 5, 6]


def test_prompts_of_two_tenants_are_separate(tenant_pair: tuple[Tenant, Tenant]) -> None:
    one, other = tenant_pair
    with tenant_context(one) as alias:
        prompt_activate(alias=alias, prompt_id=new_version(alias).pk)
    with tenant_context(other) as alias:
        assert active_prompts(alias=alias, steps=["draft"])["draft"].version == 1
        assert versions(alias).count() == 1


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("{{ keyword }} {{ tone }}", "The template uses undeclared variables: tone."),
        ("plain", "The template does not use these declared variables: keyword."),
        ("{{ tone }}", "The template uses undeclared variables (tone) and does not use declared ones (keyword)."),
    ],
)
def test_a_version_whose_declaration_disagrees_is_not_saved(tenant: Tenant, content: str, problem: str) -> None:
    with tenant_context(tenant) as alias:
        with pytest.raises(PromptMismatch) as caught:
            new_version(alias, content)
        assert str(caught.value) == problem
        assert versions(alias).count() == 1


def test_a_version_has_author_and_note(tenant: Tenant) -> None:
    with tenant_context(tenant) as alias, acting_as("staff:bob"):
        prompt = new_version(alias)
        first = versions(alias).get(version=1)
    assert (prompt.author, prompt.note) == ("staff:bob", "why")
    assert (first.author, first.note) == ("system", "Default prompt of seo-gen.")


@pytest.mark.parametrize(
    ("note", "problem"),
    [
        (" \n ", "A note is missing: say what this version changes, and why."),
        ("x" * 501, "The note is longer than 500 characters."),
        ("two\nlines", "The note must be one line of text without control characters."),
        ("nul\x00", "The note must be one line of text without control characters."),
    ],
)
def test_a_note_that_says_nothing_or_cannot_be_kept_is_refused(tenant: Tenant, note: str, problem: str) -> None:
    with tenant_context(tenant) as alias:
        with pytest.raises(InvalidPrompt) as caught:
            prompt_create(alias=alias, step="draft", content="x", variables=None, note=note)
        assert str(caught.value) == problem
        assert versions(alias).count() == 1


@pytest.mark.parametrize("column", ["author", "note"])
def test_the_database_refuses_another_author_or_note_of_a_used_version(tenant: Tenant, column: str) -> None:
    with tenant_context(tenant) as alias:
        prompt = new_version(alias)
        prompt_mark_used(alias=alias, prompt_ids=[prompt.pk])
        with pytest.raises(DatabaseError, match="has been used and cannot be changed"):
            Prompt.objects.using(alias).filter(pk=prompt.pk).update(**{column: "another"})


def test_rolling_back_returns_to_the_version_before_and_again_forward(tenant: Tenant) -> None:
    with tenant_context(tenant) as alias:
        for _number in range(2):
            prompt_activate(alias=alias, prompt_id=new_version(alias).pk)
        assert prompt_activate_previous(alias=alias, step="draft").version == 2
        assert active_prompts(alias=alias, steps=["draft"])["draft"].version == 2
        assert prompt_activate_previous(alias=alias, step="draft").version == 3
        entries = AuditLog.objects.using(alias).filter(action="prompt.activate").order_by("sequence")
        moves = [(entry.details["previous_version"], entry.details["version"]) for entry in entries if entry.details]
    assert moves == [(1, 2), (2, 3), (3, 2), (2, 3)]


def test_rolling_back_what_was_never_replaced_is_refused(tenant: Tenant) -> None:
    with tenant_context(tenant) as alias:
        new_version(alias)
        with pytest.raises(NoPreviousVersion, match=r"No other version of step draft was active before\."):
            prompt_activate_previous(alias=alias, step="draft")
        with pytest.raises(UnknownPrompt, match=r"Step 'nowhere' has no active prompt\."):
            prompt_activate_previous(alias=alias, step="nowhere")


def test_saving_and_activating_is_one_transaction(tenant: Tenant) -> None:
    with tenant_context(tenant) as alias:
        with log_refused(tenant, action="prompt.activate"), pytest.raises(DatabaseError, match=REFUSAL):
            prompt_create_active(alias=alias, step="draft", content="{{ keyword }}", variables=[KEYWORD], note="why")
        assert list(versions(alias).values_list("version", "is_active")) == [(1, True)]
        prompt_create_active(alias=alias, step="draft", content="{{ keyword }}", variables=[KEYWORD], note="why")
        assert list(versions(alias).values_list("version", "is_active")) == [(2, True), (1, False)]
