"""The forms with which staff copy prompts to other tenants: what goes where, then the copy or its undo."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django import forms
from django.core.exceptions import ValidationError
from django.utils.translation import gettext as _
from unfold.widgets import UnfoldAdminSelect2MultipleWidget, UnfoldAdminSelectWidget

from prompts.models import Prompt
from tenants.access.visible import groups_permitted, is_permitted, tenants_permitted
from tenants.admin.request_forms import OperationForm
from tenants.fleet.batch import CHANGEABLE
from tenants.models import OperationRequest, RequestKind, Tenant
from tenants.requests.kinds import KINDS
from tenants.requests.prompt_copies import copy_arguments, preview_arguments, undo_arguments

if TYPE_CHECKING:
    from django.contrib.auth.models import AnonymousUser, User
    from django.db.models import QuerySet

KIND = KINDS[RequestKind.PROMPT_COPY]
# Values of the choice of targets; a group's is "group-<id>".
SOME, ALL, GROUP = "some", "all", "group-"


class TenantsField(forms.ModelMultipleChoiceField):  # type: ignore[type-arg]
    def label_from_instance(self, obj: Any) -> str:
        return f"{obj.name} ({obj.pk})"


class PreviewForm(OperationForm):
    """Which versions to copy to which tenants.

    Only tenants whose prompts the person may edit, and groups of such tenants, are offered; any other tenant is refused
    like one that does not exist.
    """

    kind = RequestKind.PROMPT_COPY

    def __init__(
        self, tenant: Tenant, *args: Any, user: User | AnonymousUser, chosen: Prompt | None, active: list[Prompt]
    ) -> None:
        super().__init__(tenant, *args)
        self._user = user
        self._prompts = {_key(one): one for one in ([chosen] if chosen else []) + active}
        self.fields = {
            "what": forms.ChoiceField(
                label=_("Prompts"),
                required=False,
                choices=[
                    ("", _("the active versions of all steps")),
                    *((key, _named(one)) for key, one in self._prompts.items()),
                ],
                initial=_key(chosen) if chosen else "",
                widget=UnfoldAdminSelectWidget,
            ),
            "to": forms.ChoiceField(label=_("Copy to"), choices=self._targets(), widget=UnfoldAdminSelectWidget),
            "tenants": TenantsField(
                label=_("Tenants"),
                required=False,
                queryset=self._permitted(),
                widget=UnfoldAdminSelect2MultipleWidget(attrs={"data-placeholder": _("Choose tenants")}),
                help_text=_("Other tenants whose prompts you may edit."),
            ),
            **self.fields,
        }

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        if self.errors:
            return cleaned
        if cleaned["to"] != SOME and cleaned["tenants"]:
            raise ValidationError(_("Leave “Tenants” empty, or choose “the tenants chosen below” in “Copy to”."))
        if cleaned["to"] == SOME and not cleaned["tenants"]:
            self.add_error("tenants", _("Choose at least one tenant."))
        elif cleaned["to"] != ALL and not self._chosen():
            self.add_error("to", _("This group has no other tenant that you can copy to."))
        return cleaned

    def arguments(self) -> dict[str, Any]:
        prompt = self._prompts.get(self.cleaned_data["what"])
        return preview_arguments(
            steps=[prompt.step] if prompt else [],
            version=None if prompt is None or prompt.is_active else prompt.version,
            tenants=None if self.cleaned_data["to"] == ALL else self._chosen(),
            text=str(prompt) if prompt else "",
        )

    def _targets(self) -> list[tuple[str, str]]:
        groups = groups_permitted(self._user, KIND.permission)
        found = [(SOME, _("the tenants chosen below"))]
        found += [(f"{GROUP}{one.pk}", _("the group %(name)s") % {"name": one.name}) for one in groups]
        return found + ([(ALL, _("all other tenants"))] if is_permitted(self._user, KIND.everywhere, "") else [])

    def _permitted(self) -> QuerySet[Tenant]:
        assert self.tenant is not None
        permitted = tenants_permitted(self._user, KIND.permission).filter(status__in=CHANGEABLE)
        return permitted.exclude(pk=self.tenant.pk).order_by("name", "pk")

    def _chosen(self) -> list[str]:
        given = self.cleaned_data
        if given["to"] == SOME:
            return [one.pk for one in given["tenants"]]
        of_group = self._permitted().filter(groups=int(given["to"].removeprefix(GROUP)))
        return list(of_group.values_list("pk", flat=True))


class FollowingForm(OperationForm):
    """A form for an operation that follows a finished one and takes its arguments from it."""

    def __init__(self, tenant: Tenant, *args: Any, before: OperationRequest) -> None:
        self.before = before
        super().__init__(tenant, *args)


class CopyForm(FollowingForm):
    kind = RequestKind.PROMPT_COPY

    def __init__(self, tenant: Tenant, *args: Any, before: OperationRequest) -> None:
        # A second person reads it.
        self.reason_required = bool((before.result or {}).get("to_all"))
        super().__init__(tenant, *args, before=before)

    def arguments(self) -> dict[str, Any]:
        return copy_arguments(self.before)


class UndoForm(FollowingForm):
    kind = RequestKind.PROMPT_UNDO
    reason_required = True

    def arguments(self) -> dict[str, Any]:
        return undo_arguments(self.before)


def _key(prompt: Prompt) -> str:
    return prompt.step if prompt.is_active else f"{prompt.step}:{prompt.version}"


def _named(prompt: Prompt) -> str:
    return _("%(prompt)s, active") % {"prompt": prompt} if prompt.is_active else str(prompt)
