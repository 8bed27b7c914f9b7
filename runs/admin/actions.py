"""What staff can do with runs in a tenant's admin: on one run's page, and with the runs selected in the list."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING, Any

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.core.exceptions import ValidationError
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils.http import urlencode
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext
from unfold.enums import ActionVariant
from unfold.widgets import UnfoldAdminSelectWidget, UnfoldAdminTextareaWidget, UnfoldAdminTextInputWidget

from config.base.errors import SeoGenError, joined
from config.site.admin_base import ReadOnlyAdmin, action, finished, form_page, is_action
from runs.admin.cells import input_of
from runs.config import MAX_BUDGET_USD, is_budget
from runs.errors import InvalidReviewComment
from runs.models import PauseCause, Run, RunStatus, Step
from runs.services.approve import checked_comment, review_of, run_approve, run_send_back
from runs.services.bulk import runs_change
from runs.services.cancel import run_cancel
from runs.services.pause import run_pause
from runs.services.resume import run_resume
from runs.services.retry import run_retry
from runs.services.transition import (
    APPROVE,
    CANCEL,
    PAUSE,
    RESUME,
    RETRY,
    RETRY_FROM,
    SEND_BACK,
    Transition,
)
from runs.types import RunsReport
from tenants.routing.context import current_alias, current_tenant

if TYPE_CHECKING:

    class DialogForm(forms.Form):
        object_id: str

else:
    from unfold.forms import BaseDialogForm as DialogForm

# The parameter of the start form's URL that names the run whose configuration fills it in.
FROM = "from"
# The permission to approve and send back, and the one for everything else.
REVIEW, CONTROL = "runs.review_run", "runs.change_run"
# How many refusals of a bulk action are shown; the rest are only counted.
SHOWN_REFUSALS = 5
# A confirmation names at most this many of the selected runs.
SHOWN_RUNS = 20
# The request attribute that caches the state of the page's run.
STATE = "seo_gen_run_state"


class ReviewForm(DialogForm):
    """A dialog that ends a review.

    A hidden field says which review the run was waiting for when the dialog was opened.
    """

    seen = forms.CharField(required=False, widget=forms.HiddenInput)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        run = Run.objects.using(current_alias()).filter(pk=self.object_id).first()
        self.fields["seen"].initial = review_of(run) if run else ""


class StepsForm(DialogForm):
    """A dialog in which one of the run's steps is chosen."""

    step = forms.ChoiceField(label=gettext_lazy("Step"), widget=UnfoldAdminSelectWidget)

    # Whether the run's current step can also be chosen.
    includes_current = True

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        names = _reached_steps(self.object_id, includes_current=self.includes_current)
        self.fields["step"].choices = [(name, name) for name in names]  # type: ignore[attr-defined]
        self.fields["step"].initial = names[-1] if names else None


class SendBackForm(ReviewForm, StepsForm):
    includes_current = False

    comment = forms.CharField(
        label=gettext_lazy("Comment"),
        widget=UnfoldAdminTextareaWidget(attrs={"rows": 6}),
        help_text=gettext_lazy("What the model should do differently. The step's prompt gets it as review_comment."),
    )

    def clean_comment(self) -> str:
        try:
            return checked_comment(self.cleaned_data["comment"])
        except InvalidReviewComment as error:
            raise ValidationError(str(error)) from error


class BudgetForm(DialogForm):
    """A dialog in which the run's own budget is changed."""

    budget_usd = forms.DecimalField(
        label=gettext_lazy("Budget of this run (USD)"),
        widget=UnfoldAdminTextInputWidget(attrs={"inputmode": "decimal"}),
        help_text=gettext_lazy("What all its calls together may cost, including those already made."),
    )

    def clean_budget_usd(self) -> Decimal:
        amount: Decimal = self.cleaned_data["budget_usd"]
        if not is_budget(amount):
            raise ValidationError(
                _("Enter an amount above 0 and up to %(limit)d, with at most six decimal places.")
                % {"limit": MAX_BUDGET_USD}
            )
        return amount


class CancelSelectedForm(forms.Form):
    """Carries the list's selection, which Django reads from the POST of the confirmation."""

    action = forms.CharField(widget=forms.HiddenInput)
    select_across = forms.CharField(widget=forms.HiddenInput, required=False)
    confirmed = forms.CharField(widget=forms.HiddenInput)

    def __init__(self, selected: Sequence[str], select_across: str) -> None:
        initial = {"action": "cancel_selected", "select_across": select_across, "confirmed": "on"}
        super().__init__(initial=initial)
        choices = [(pk, pk) for pk in selected]
        self.fields[ACTION_CHECKBOX_NAME] = forms.MultipleChoiceField(
            choices=choices, initial=selected, widget=forms.MultipleHiddenInput
        )


class RunActions(ReadOnlyAdmin):
    """The actions on runs.

    Those that change runs call a service, which decides whether a run's state allows that.
    """

    actions: Any = ("pause_selected", "resume_selected", "approve_selected", "retry_selected", "cancel_selected")
    actions_detail = (
        "approve",
        "send_back",
        "pause",
        "raise_budget",
        "resume",
        "retry",
        "retry_from",
        "cancel",
        "start_again",
    )

    def has_start_again_permission(self, request: HttpRequest, object_id: str | None = None) -> bool:
        return self.has_add_permission(request)

    def has_control_permission(self, request: HttpRequest, object_id: str | None = None) -> bool:
        return request.user.has_perm(CONTROL)

    def has_review_permission(self, request: HttpRequest, object_id: str | None = None) -> bool:
        return request.user.has_perm(REVIEW)

    def has_approve_permission(self, request: HttpRequest, object_id: str | None = None) -> bool:
        return self._may(request, object_id, APPROVE, REVIEW)

    def has_send_back_permission(self, request: HttpRequest, object_id: str | None = None) -> bool:
        return self._may(request, object_id, SEND_BACK, REVIEW)

    def has_raise_budget_permission(self, request: HttpRequest, object_id: str | None = None) -> bool:
        if not self._may(request, object_id, RESUME):
            return False
        return is_action(request) or _state_of(request, object_id)[1] == PauseCause.BUDGET

    def has_pause_permission(self, request: HttpRequest, object_id: str | None = None) -> bool:
        return self._may(request, object_id, PAUSE)

    def has_resume_permission(self, request: HttpRequest, object_id: str | None = None) -> bool:
        return self._may(request, object_id, RESUME)

    def has_retry_permission(self, request: HttpRequest, object_id: str | None = None) -> bool:
        return self._may(request, object_id, RETRY)

    def has_retry_from_permission(self, request: HttpRequest, object_id: str | None = None) -> bool:
        return self._may(request, object_id, RETRY_FROM)

    def has_cancel_permission(self, request: HttpRequest, object_id: str | None = None) -> bool:
        return self._may(request, object_id, CANCEL)

    # -- one run ---------------------------------------------------------------------------------------------------

    @action(
        description=gettext_lazy("Approve"),
        permissions=["approve"],
        variant=ActionVariant.PRIMARY,
        dialog={
            "title": gettext_lazy("Approve the next step?"),
            "description": gettext_lazy("The run continues with its next step."),
            "form_class": ReviewForm,
            "form_submit_text": gettext_lazy("Approve"),
        },
    )
    def approve(self, request: HttpRequest, form: DialogForm, object_id: str) -> HttpResponse:
        service = partial(run_approve, seen=form.cleaned_data["seen"])
        return self._change(request, object_id, service, _("The run was approved."))

    @action(
        description=gettext_lazy("Send back"),
        permissions=["send_back"],
        dialog={
            "title": gettext_lazy("Send this run back?"),
            "description": gettext_lazy(
                "The run begins again with the chosen step, and later waits for a review again. Replaced outputs are"
                " kept."
            ),
            "form_class": SendBackForm,
            "form_submit_text": gettext_lazy("Send back"),
        },
    )
    def send_back(self, request: HttpRequest, form: DialogForm, object_id: str) -> HttpResponse:
        given = form.cleaned_data
        service = partial(run_send_back, comment=given["comment"], from_step=given["step"], seen=given["seen"])
        return self._change(request, object_id, service, _("The run was sent back."))

    @action(
        description=gettext_lazy("Pause"),
        permissions=["pause"],
        dialog={
            "title": gettext_lazy("Pause this run?"),
            "description": gettext_lazy(
                "A call in progress is not interrupted, and its output is kept. No new call starts until the run is"
                " resumed."
            ),
            "form_submit_text": gettext_lazy("Pause"),
        },
    )
    def pause(self, request: HttpRequest, form: DialogForm, object_id: str) -> HttpResponse:
        return self._change(request, object_id, run_pause, _("The run was paused."))

    @action(
        description=gettext_lazy("Resume"),
        permissions=["resume"],
        variant=ActionVariant.PRIMARY,
        dialog={
            "title": gettext_lazy("Resume this run?"),
            "description": gettext_lazy(
                "The run continues with its current step, unless that step needs a review first."
            ),
            "form_submit_text": gettext_lazy("Resume"),
        },
    )
    def resume(self, request: HttpRequest, form: DialogForm, object_id: str) -> HttpResponse:
        return self._change(request, object_id, run_resume, _("The run was resumed."), continues=True)

    @action(
        description=gettext_lazy("Raise budget"),
        permissions=["raise_budget"],
        variant=ActionVariant.PRIMARY,
        dialog={
            "title": gettext_lazy("Raise this run's budget?"),
            "description": gettext_lazy(
                "The run is resumed with the new budget. The tenant's monthly budget stays as it is;"
                " it is set on the tenant's page."
            ),
            "form_class": BudgetForm,
            "form_submit_text": gettext_lazy("Raise and resume"),
        },
    )
    def raise_budget(self, request: HttpRequest, form: DialogForm, object_id: str) -> HttpResponse:
        service = partial(run_resume, budget_usd=form.cleaned_data["budget_usd"])
        return self._change(request, object_id, service, _("The run was resumed with the new budget."), continues=True)

    @action(
        description=gettext_lazy("Retry"),
        permissions=["retry"],
        variant=ActionVariant.PRIMARY,
        dialog={
            "title": gettext_lazy("Retry this run?"),
            "description": gettext_lazy(
                "The run continues with the step that failed, unless that step needs a review first."
            ),
            "form_submit_text": gettext_lazy("Retry"),
        },
    )
    def retry(self, request: HttpRequest, form: DialogForm, object_id: str) -> HttpResponse:
        return self._change(request, object_id, run_retry, _("The run was retried."), continues=True)

    @action(
        description=gettext_lazy("Retry from a step"),
        permissions=["retry_from"],
        dialog={
            "title": gettext_lazy("Retry from which step?"),
            "description": gettext_lazy(
                "The run begins again with the chosen step, unless that step needs a review first."
                " Replaced outputs are kept."
            ),
            "form_class": StepsForm,
            "form_submit_text": gettext_lazy("Retry"),
        },
    )
    def retry_from(self, request: HttpRequest, form: DialogForm, object_id: str) -> HttpResponse:
        service = partial(run_retry, from_step=form.cleaned_data["step"])
        return self._change(request, object_id, service, _("The run was retried."), continues=True)

    @action(
        description=gettext_lazy("Cancel run"),
        permissions=["cancel"],
        variant=ActionVariant.DANGER,
        dialog={
            "title": gettext_lazy("Cancel this run?"),
            "description": gettext_lazy(
                "The run is marked as failed. A call in progress is abandoned, but its cost still counts."
            ),
            "form_submit_text": gettext_lazy("Cancel run"),
            "form_submit_variant": "danger",
            # "Cancel" would be the name of both buttons.
            "dismiss_text": gettext_lazy("Go back"),
        },
    )
    def cancel(self, request: HttpRequest, form: DialogForm, object_id: str) -> HttpResponse:
        return self._change(request, object_id, run_cancel, _("The run was cancelled."))

    @action(description=gettext_lazy("Start a similar run"), permissions=["start_again"])
    def start_again(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Open the form that starts a run, filled in with this run's configuration."""
        return HttpResponseRedirect(f"{reverse('admin:runs_run_add')}?{urlencode({FROM: object_id})}")

    # -- the runs selected in the list -----------------------------------------------------------------------------

    @admin.action(description=gettext_lazy("Pause selected runs"), permissions=["control"])
    def pause_selected(self, request: HttpRequest, queryset: QuerySet[Run]) -> None:
        report = self._change_selected(request, queryset, run_pause)
        done = ngettext("%(n)d run was paused.", "%(n)d runs were paused.", report["done"])
        _tell(request, report, done, report["done"])

    @admin.action(description=gettext_lazy("Resume selected runs"), permissions=["control"])
    def resume_selected(self, request: HttpRequest, queryset: QuerySet[Run]) -> None:
        report = self._change_selected(request, queryset, run_resume)
        count = report["done"] - _waiting(report)
        _tell(request, report, ngettext("%(n)d run was resumed.", "%(n)d runs were resumed.", count), count)
        _tell_of_reviews(request, report)

    @admin.action(description=gettext_lazy("Approve selected runs"), permissions=["review"])
    def approve_selected(self, request: HttpRequest, queryset: QuerySet[Run]) -> None:
        report = self._change_selected(request, queryset, run_approve)
        done = ngettext("%(n)d run was approved.", "%(n)d runs were approved.", report["done"])
        _tell(request, report, done, report["done"])

    @admin.action(description=gettext_lazy("Retry selected runs"), permissions=["control"])
    def retry_selected(self, request: HttpRequest, queryset: QuerySet[Run]) -> None:
        report = self._change_selected(request, queryset, run_retry)
        count = report["done"] - _waiting(report)
        _tell(request, report, ngettext("%(n)d run was retried.", "%(n)d runs were retried.", count), count)
        _tell_of_reviews(request, report)

    @admin.action(description=gettext_lazy("Cancel selected runs"), permissions=["control"])
    def cancel_selected(self, request: HttpRequest, queryset: QuerySet[Run]) -> HttpResponse | None:
        """Ask for confirmation, then cancel the selected runs."""
        if "confirmed" not in request.POST:
            able = queryset.filter(status__in=CANCEL.statuses)
            count, ended = able.count(), queryset.count() - able.count()
            if not count:
                messages.error(
                    request,
                    ngettext("The selected run has already ended.", "The selected runs have already ended.", ended),
                )
                return None
            explanation = (
                _("The run is marked as failed. A call in progress is abandoned, but its cost still counts.")
                if count == 1
                else _("The runs are marked as failed. Calls in progress are abandoned, but their cost still counts.")
            )
            if ended:
                stay = ngettext(
                    "%(n)d selected run has already ended and stays as it is.",
                    "%(n)d selected runs have already ended and stay as they are.",
                    ended,
                ) % {"n": ended}
                explanation = joined(explanation, stay)
            return form_page(
                self,
                request,
                CancelSelectedForm(request.POST.getlist(ACTION_CHECKBOX_NAME), request.POST.get("select_across", "0")),
                title=ngettext("Cancel %(n)d run?", "Cancel %(n)d runs?", count) % {"n": count},
                submit=_("Cancel run") if count == 1 else _("Cancel runs"),
                # "Cancel" would be the name of both buttons.
                back_text=_("Go back"),
                destroys=True,
                explanation=explanation,
                back_url=request.get_full_path(),
                rows=[_in_words(run) for run in able.order_by("created_at", "pk")[:SHOWN_RUNS]],
                more_rows=max(0, count - SHOWN_RUNS),
            )
        report = self._change_selected(request, queryset, run_cancel)
        done = ngettext("%(n)d run was cancelled.", "%(n)d runs were cancelled.", report["done"])
        _tell(request, report, done, report["done"])
        return None

    def _may(
        self, request: HttpRequest, object_id: str | None, transition: Transition, permission: str = CONTROL
    ) -> bool:
        """Return whether to offer a transition. When it is carried out, only the service checks the run's state."""
        if not request.user.has_perm(permission):
            return False
        return is_action(request) or transition.allows(*_state_of(request, object_id))

    def _change(
        self,
        request: HttpRequest,
        run_id: str,
        service: Callable[..., Run],
        done: str,
        *,
        continues: bool = False,
    ) -> HttpResponse:
        """Call the service, and show its error or `done`.

        Unless the service pauses, also say so if the run now waits for a review. If `done` says that the run continues,
        this is said instead.
        """
        try:
            run = service(tenant_id=current_tenant().id, run_id=run_id)
        except SeoGenError as error:
            messages.error(request, str(error))
        else:
            is_waiting = service is not run_pause and run.pause_cause == PauseCause.REVIEW
            if not (continues and is_waiting):
                messages.success(request, done)
            if is_waiting:
                waits = _("The run is waiting for a review before step %(step)s.") % {"step": run.current_step}
                messages.info(request, waits)
        return finished(request, reverse("admin:runs_run_change", args=[run_id]))

    def _change_selected(
        self, request: HttpRequest, queryset: QuerySet[Run], service: Callable[..., Run]
    ) -> RunsReport:
        tenant_id = current_tenant().id

        def change(run_id: str) -> Run:
            return service(tenant_id=tenant_id, run_id=run_id)

        ids = [str(pk) for pk in queryset.order_by("created_at", "pk").values_list("pk", flat=True)]
        return runs_change(tenant_id=tenant_id, change=change, run_ids=ids)


def _in_words(run: Run) -> str:
    return f"{input_of(run, 'keyword') or run.pk} · {run.get_status_display()}"


def _tell(request: HttpRequest, report: RunsReport, done: str, count: int) -> None:
    """Show what a bulk action did; `done` is the sentence about the `count` runs for which it is true."""
    if count:
        messages.success(request, done % {"n": count})
    refusals = [run["message"] for run in report["runs"] if run["outcome"] == "refused"]
    for refusal in refusals[:SHOWN_REFUSALS]:
        messages.error(request, str(refusal))
    if (more := len(refusals) - SHOWN_REFUSALS) > 0:
        messages.error(
            request, ngettext("%(n)d more run was refused.", "%(n)d more runs were refused.", more) % {"n": more}
        )


def _tell_of_reviews(request: HttpRequest, report: RunsReport) -> None:
    """Show how many of the runs that were to continue are paused, since their next step needs a review first."""
    waiting = _waiting(report)
    if waiting:
        text = ngettext(
            "%(n)d run is waiting for a review before it continues.",
            "%(n)d runs are waiting for a review before they continue.",
            waiting,
        )
        messages.info(request, text % {"n": waiting})


def _waiting(report: RunsReport) -> int:
    """Return how many of the runs that were to continue are paused."""
    return sum(run["status"] == RunStatus.PAUSED for run in report["runs"])


def _state_of(request: HttpRequest, run_id: str | None) -> tuple[str, str | None]:
    """Return the run's status and pause cause, read once per request; ("", None) if there is no such run."""
    states: dict[str | None, tuple[str, str | None]] = request.__dict__.setdefault(STATE, {})
    if run_id not in states:
        runs = Run.objects.using(current_alias()).filter(pk__in=[run_id] if run_id else [])
        states[run_id] = runs.values_list("status", "pause_cause").first() or ("", None)
    return states[run_id]


def _reached_steps(run_id: str, *, includes_current: bool) -> list[str]:
    """Return the names of the run's steps in order, up to the current one, which is included on request.

    Returns all of them if the run has no current step.
    """
    steps = Step.objects.using(current_alias()).filter(run_id=run_id).order_by("position", "id")
    names = list(steps.values_list("step", flat=True))
    current = Run.objects.using(current_alias()).filter(pk=run_id).values_list("current_step", flat=True).first()
    reached = names.index(current) + int(includes_current) if current in names else len(names)
    return names[:reached]
