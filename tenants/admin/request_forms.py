"""The forms with which staff request operations. Files are chosen from the catalogue, never typed as paths."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django import forms
from django.core.exceptions import ValidationError
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from unfold.widgets import (
    UnfoldAdminSelectWidget,
    UnfoldAdminTextareaWidget,
    UnfoldAdminTextInputWidget,
    UnfoldBooleanSwitchWidget,
)

from config.base.output import size
from config.base.times import to_minute
from tenants.files.age_encryption import recipient_for
from tenants.models import Backup, BackupKind, BackupStatus, RequestKind, Tenant
from tenants.naming import ID_MAX_LENGTH, validate_id
from tenants.requests.errors import InvalidOperation
from tenants.requests.places import export_file
from tenants.requests.request import REASON_MAX_LENGTH, clean_reason

if TYPE_CHECKING:
    from django_stubs_ext import StrPromise

MOMENT = ("%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M")


def checked_reason(text: str) -> str:
    """Return a field's reason as one trimmed line; raise `ValidationError` if it cannot be stored."""
    try:
        return clean_reason(text.replace("\r\n", " ").replace("\n", " "))
    except InvalidOperation as error:
        raise ValidationError(error.message) from error


class BackupChoiceField(forms.ModelChoiceField):  # type: ignore[type-arg]
    def label_from_instance(self, obj: Any) -> str:
        backup: Backup = obj
        words = [to_minute(backup.started_at), size(backup.size_bytes)]
        if backup.recipient:
            words.append(_("encrypted"))
        if backup.verified_at is not None:
            words.append(_("verification failed") if backup.verify_error else _("intact"))
        return " · ".join(words)


class OperationForm(forms.Form):
    """The base of all forms: it asks for a reason. `arguments` returns the arguments of the operation."""

    kind: RequestKind
    reason_required = False

    def __init__(self, tenant: Tenant | None, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.tenant = tenant
        self.fields["reason"] = forms.CharField(
            label=_("Reason"),
            required=self.reason_required,
            max_length=REASON_MAX_LENGTH,
            widget=UnfoldAdminTextareaWidget(attrs={"rows": 2}),
            help_text=_("Kept in the audit log."),
        )

    def clean_reason(self) -> str:
        return checked_reason(self.cleaned_data["reason"])

    def arguments(self) -> dict[str, Any]:
        return {}


class TypedIdForm(OperationForm):
    """A request that destroys or replaces something: the tenant's id must be typed."""

    def __init__(self, tenant: Tenant | None, *args: Any, **kwargs: Any) -> None:
        super().__init__(tenant, *args, **kwargs)
        assert tenant is not None
        self.fields["typed_id"] = forms.CharField(
            label=_("Type %(id)s to continue") % {"id": tenant.id},
            max_length=ID_MAX_LENGTH,
            widget=UnfoldAdminTextInputWidget(attrs={"autocomplete": "off", "autocapitalize": "off"}),
        )

    def clean_typed_id(self) -> str:
        typed: str = self.cleaned_data["typed_id"].strip()
        if self.tenant is None or typed != self.tenant.id:
            raise ValidationError(_("This is not the tenant's id."))
        return typed


class SourceForm(OperationForm):
    """A request with a source: a backup from the catalogue, or a point in time."""

    source_required = True

    def __init__(self, tenant: Tenant | None, *args: Any, **kwargs: Any) -> None:
        super().__init__(tenant, *args, **kwargs)
        assert tenant is not None
        catalogue = Backup.objects.filter(
            tenant_id=tenant.id, status=BackupStatus.COMPLETED, kind=BackupKind.BACKUP
        ).order_by("-started_at")
        source = {
            "backup": BackupChoiceField(
                label=_("Backup"), queryset=catalogue, required=False, widget=UnfoldAdminSelectWidget
            ),
            "to_time": forms.DateTimeField(
                label=_("Or a point in time"),
                required=False,
                input_formats=MOMENT,
                widget=UnfoldAdminTextInputWidget(attrs={"type": "datetime-local", "step": "1"}),
                help_text=_(
                    "Time zone: %(zone)s. Needs an earlier base backup of the server, and its archived write-ahead log."
                )
                % {"zone": timezone.get_current_timezone_name()},
            ),
        }
        self.fields = {**source, **self.fields}

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        chosen = [name for name in ("backup", "to_time") if cleaned.get(name)]
        if len(chosen) > 1 or (self.source_required and not chosen and not self.errors):
            raise ValidationError(_("Choose either a backup or a point in time."))
        return cleaned

    def source(self) -> dict[str, Any]:
        given = self.cleaned_data
        if given.get("backup"):
            return {"backup": str(given["backup"].pk)}
        return {"to_time": given["to_time"].isoformat()} if given.get("to_time") else {}


def _stop_runs(effect: StrPromise) -> forms.BooleanField:
    """Return the switch for runs in progress; `effect` says what happens to them."""
    return forms.BooleanField(
        label=gettext_lazy("Continue even if runs are in progress"),
        required=False,
        widget=UnfoldBooleanSwitchWidget,
        help_text=effect,
    )


class BackupForm(OperationForm):
    kind = RequestKind.BACKUP

    with_storage = forms.BooleanField(
        label=gettext_lazy("Include the tenant's files"),
        required=False,
        initial=True,
        widget=UnfoldBooleanSwitchWidget,
    )

    def arguments(self) -> dict[str, Any]:
        return {"with_storage": self.cleaned_data["with_storage"]}


class RestoreForm(SourceForm, TypedIdForm):
    kind = RequestKind.RESTORE
    reason_required = True

    stop_runs = _stop_runs(
        gettext_lazy(
            "Those that are newer than the chosen state are lost; the others are marked as failed, unless they are"
            " paused in that state. If this is off, the operation is refused while runs are in progress."
        )
    )

    def arguments(self) -> dict[str, Any]:
        return {**self.source(), "stop_runs": self.cleaned_data["stop_runs"]}


class UndoForm(TypedIdForm):
    kind = RequestKind.UNDO
    reason_required = True

    stop_runs = _stop_runs(
        gettext_lazy(
            "They stay as they are in the database that is replaced, and none is marked as failed. If this is off, the"
            " operation is refused while runs are in progress."
        )
    )

    def arguments(self) -> dict[str, Any]:
        return {"stop_runs": self.cleaned_data["stop_runs"]}


class CopyForm(SourceForm):
    kind = RequestKind.COPY

    new_id = forms.CharField(
        label=gettext_lazy("ID of the new tenant"), max_length=ID_MAX_LENGTH, widget=UnfoldAdminTextInputWidget
    )

    def clean_new_id(self) -> str:
        new_id = validate_id(self.cleaned_data["new_id"].strip())
        if Tenant.objects.filter(pk=new_id).exists():
            raise ValidationError(_("This id is taken."))
        return new_id

    def arguments(self) -> dict[str, Any]:
        return {**self.source(), "new_id": self.cleaned_data["new_id"]}


class DrillForm(SourceForm):
    kind = RequestKind.DRILL
    source_required = False

    def arguments(self) -> dict[str, Any]:
        return self.source()


class ExportForm(OperationForm):
    kind = RequestKind.EXPORT
    reason_required = True

    def arguments(self) -> dict[str, Any]:
        assert self.tenant is not None
        return {"output": export_file(self.tenant.id), "recipient": recipient_for(None)}


class DeleteForm(TypedIdForm):
    kind = RequestKind.DELETE
    reason_required = True

    accept_audit_loss = forms.BooleanField(
        label=gettext_lazy("Continue even if the tenant's audit log is broken or missing"),
        required=False,
        widget=UnfoldBooleanSwitchWidget,
    )
    accept_lost_backups = forms.BooleanField(
        label=gettext_lazy("Continue even if backups of the tenant cannot be removed"),
        required=False,
        widget=UnfoldBooleanSwitchWidget,
    )

    def arguments(self) -> dict[str, Any]:
        return {name: self.cleaned_data[name] for name in ("accept_audit_loss", "accept_lost_backups")}


class MigrateForm(OperationForm):
    kind = RequestKind.MIGRATE

    dry_run = forms.BooleanField(
        label=gettext_lazy("Dry run"),
        required=False,
        initial=True,
        widget=UnfoldBooleanSwitchWidget,
        help_text=gettext_lazy("The migrations are prepared in every tenant that needs them, timed, and rolled back."),
    )

    def arguments(self) -> dict[str, Any]:
        return {"dry_run": self.cleaned_data["dry_run"]}
