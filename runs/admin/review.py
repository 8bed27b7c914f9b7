"""The queue of reviews: staff read and decide one run after another, with keyboard shortcuts."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django import forms
from django.contrib import messages
from django.core.exceptions import ValidationError
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from unfold.widgets import UnfoldAdminSelectWidget, UnfoldAdminTextareaWidget

from config.base.errors import SeoGenError
from config.site.admin_base import StaffAdmin
from runs.admin.cells import input_of
from runs.admin.texts import Text, read_text, texts_of
from runs.errors import InvalidReviewComment
from runs.models import PauseCause, Run, RunStatus, Step
from runs.presentation.markdown import article_context
from runs.presentation.timeline import moment
from runs.services.approve import checked_comment, review_of, run_approve, run_send_back
from tenants.routing.context import current_alias, current_tenant

# As many as are worth listing beside the text.
SHOWN = 50


class ReviewForm(forms.Form):
    """A decision about a run as it was read; `seen` names the review by its step and time."""

    run = forms.UUIDField(widget=forms.HiddenInput)
    seen = forms.CharField(widget=forms.HiddenInput)
    comment = forms.CharField(
        label=gettext_lazy("Comment"), required=False, widget=UnfoldAdminTextareaWidget(attrs={"rows": 4})
    )
    from_step = forms.ChoiceField(label=gettext_lazy("From step"), required=False, widget=UnfoldAdminSelectWidget)

    def __init__(self, *args: Any, earlier: list[str], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["from_step"].choices = [(name, name) for name in earlier]  # type: ignore[attr-defined]

    def clean(self) -> dict[str, Any]:
        given = super().clean() or {}
        if "send_back" in self.data:
            try:
                checked_comment(given.get("comment", ""))
            except InvalidReviewComment as error:
                raise ValidationError(str(error)) from error
        return given


def review_page(admin: StaffAdmin, request: HttpRequest) -> HttpResponse:
    """Show the run that has waited longest, or the one that the URL names; on POST, carry out the decision."""
    alias = current_alias()
    waiting = Run.objects.using(alias).filter(status=RunStatus.PAUSED, pause_cause=PauseCause.REVIEW)
    queue = list(waiting.order_by("paused_at", "pk")[:SHOWN])
    asked = request.POST.get("run") or request.GET.get("run")
    run = _asked(waiting, asked)
    if run is not None and run not in queue:
        queue.append(run)
    if asked and run is None:
        messages.warning(request, _("This run is not waiting for a review. Someone may have decided on it already."))
    if request.method == "POST":
        form = _form(alias, run, request.POST)
        if run is None or (form.is_valid() and _decide(request, run, form)):
            return HttpResponseRedirect(_url(_neighbour(queue, run, 1)))
    else:
        run = run or (queue[0] if queue else None)
        form = _form(alias, run)
    context = {
        "queue": [(one, input_of(one, "keyword") or str(one.pk), moment(one.paused_at)) for one in queue],
        "run": run,
        "form": form,
        "next_url": _url(_neighbour(queue, run, 1)),
        "previous_url": _url(_neighbour(queue, run, -1)),
        **(_shown(alias, run) if run else {}),
        **admin.admin_site.each_context(request),
        "title": _("Reviews"),
        "opts": admin.opts,
        "media": admin.media + form.media,
    }
    return TemplateResponse(request, "admin/run_review.html", context)


def _asked(waiting: QuerySet[Run], asked: str | None) -> Run | None:
    """Return the run with this id if it waits for a review, even too far back to be listed; otherwise None."""
    try:
        return waiting.filter(pk=UUID(asked)).first() if asked else None
    except ValueError:
        return None


def _decide(request: HttpRequest, run: Run, form: ReviewForm) -> bool:
    """Approve the run or send it back; if the service refuses, add its error to the form and return False."""
    given = form.cleaned_data
    tenant_id, seen = current_tenant().id, given["seen"]
    try:
        if "send_back" in request.POST:
            run_send_back(
                tenant_id=tenant_id,
                run_id=run.pk,
                comment=given["comment"],
                from_step=given["from_step"] or None,
                seen=seen,
            )
            messages.success(request, _("The run was sent back."))
        else:
            run_approve(tenant_id=tenant_id, run_id=run.pk, seen=seen)
            messages.success(request, _("The run was approved."))
    except SeoGenError as error:
        form.add_error(None, str(error))
        return False
    return True


def _form(alias: str, run: Run | None, data: Any = None) -> ReviewForm:
    earlier = _earlier(alias, run) if run else []
    initial = {"run": run.pk, "seen": review_of(run), "from_step": earlier[-1] if earlier else None} if run else {}
    return ReviewForm(data, earlier=earlier, initial=initial)


def _earlier(alias: str, run: Run) -> list[str]:
    steps = Step.objects.using(alias).filter(run=run).order_by("position", "id")
    names = list(steps.values_list("step", flat=True))
    return names[: names.index(run.current_step)] if run.current_step in names else []


def _shown(alias: str, run: Run) -> dict[str, Any]:
    """Return the page's values for the last text before the review: the text, rendered, or why it cannot be read."""
    text = _under_review(texts_of(alias=alias, run=run), _earlier(alias, run))
    shown: dict[str, Any] = {"keyword": input_of(run, "keyword") or str(run.pk), "text": text}
    if text is None:
        return shown
    try:
        source = read_text(alias=alias, text=text)
    except SeoGenError as error:
        return {**shown, "error": error}
    return {**shown, **article_context(source)}


def _under_review(texts: list[Text], earlier: list[str]) -> Text | None:
    current = {text.step: text for text in texts if text.version is None}
    return next((current[step] for step in reversed(earlier) if step in current), None)


def _neighbour(queue: list[Run], run: Run | None, distance: int) -> Run | None:
    others = [one for one in queue if run is None or one.pk != run.pk]
    if run is None or not others:
        return others[0] if others else None
    position = next(index for index, one in enumerate(queue) if one.pk == run.pk)
    return queue[(position + distance) % len(queue)]


def _url(run: Run | None) -> str:
    page = reverse("admin:runs_run_reviews")
    return f"{page}?run={run.pk}" if run else page
