"""Pages for the texts of a run (the article and each step's output): one text rendered, or two side by side."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from django import forms
from django.http import Http404, HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from unfold.widgets import UnfoldAdminSelectWidget

from config.base.errors import SeoGenError
from config.site.admin_base import StaffAdmin
from runs.admin.cells import input_of, is_truncated, replaced_version, with_truncation
from runs.errors import UnknownRun
from runs.models import Artifact, Run, Step
from runs.output import ARTICLE, decode
from runs.presentation.difference import side_by_side
from runs.presentation.markdown import article_context
from runs.selectors import run_get
from runs.services.read_texts import artifact_read, output_read
from runs.services.versions import OUTPUT
from tenants.routing.context import current_alias

MARKDOWN = ".md"
# In characters. Comparing takes time in proportion to the product of both lengths.
MAX_COMPARED_CHARS = 200_000


@dataclass(frozen=True)
class Text:
    """A text that a run wrote: a Markdown file, or the output of a step, current or replaced."""

    key: str
    step: str
    # The version of the step; None for the current one.
    version: str | None
    is_article: bool
    is_truncated: bool
    source: Artifact | Step

    @property
    def label(self) -> str:
        name = _("Article (%(step)s)") % {"step": self.step} if self.is_article else self.step
        return name if self.version is None else _("%(name)s, version %(n)s") % {"name": name, "n": self.version}


class CompareForm(forms.Form):
    """The choice of the two texts of a run to show side by side."""

    old = forms.ChoiceField(label=gettext_lazy("Before"), required=False, widget=UnfoldAdminSelectWidget)
    new = forms.ChoiceField(label=gettext_lazy("After"), required=False, widget=UnfoldAdminSelectWidget)

    def __init__(self, texts: Iterable[Text], *, old: Text, new: Text) -> None:
        super().__init__(initial={"old": old.key, "new": new.key})
        for field in self.fields.values():
            field.choices = [(text.key, text.label) for text in texts]  # type: ignore[attr-defined]


def texts_of(*, alias: str, run: Run) -> list[Text]:
    """Return the run's texts, from the last step to the first: for each, the current text, then those it replaced."""
    steps = list(Step.objects.using(alias).filter(run=run).order_by("position", "id"))
    artifacts = with_truncation(Artifact.objects.using(alias).filter(run=run)).order_by("id")
    found: dict[tuple[str, str | None], Text] = {}
    for one in map(_of_artifact, artifacts):
        # Of an article, `output.json` may be kept too.
        if one is not None and not (found.get((one.step, one.version), one).is_article and not one.is_article):
            found[one.step, one.version] = one
    for step in steps:
        if step.output_path and (step.step, None) not in found:
            found[step.step, None] = Text(f"s{step.pk}", step.step, None, False, step.is_truncated, step)
    order = {step.step: -position for position, step in enumerate(steps)}
    return sorted(found.values(), key=lambda text: (order.get(text.step, 1), -int(text.version or 10**9)))


def read_text(*, alias: str, text: Text) -> str:
    """Return the text, verified and recorded as read.

    Raises `DigestMismatch`, `MissingFile`, `InvalidPath` or `StorageError`.
    """
    source = text.source
    if isinstance(source, Step):
        return _decoded(output_read(alias=alias, step=source))
    content = artifact_read(alias=alias, artifact=source)
    return _decoded(content) if source.file_type == OUTPUT else content.decode(errors="replace")


def texts_page(admin: StaffAdmin, request: HttpRequest, run_id: object) -> HttpResponse:
    """Show one of the run's texts, with links to the others."""
    alias, run = current_alias(), _run_or_404(run_id)
    texts = texts_of(alias=alias, run=run)
    chosen = next((text for text in texts if text.key == request.GET.get("text")), texts[0] if texts else None)
    context: dict[str, Any] = {"texts": texts, "chosen": chosen, "versions": _versions_of(chosen, texts)}
    if chosen is not None:
        try:
            source = read_text(alias=alias, text=chosen)
        except SeoGenError as error:
            context["error"] = error
        else:
            context |= {"source": source, **article_context(source)}
    return _page(admin, request, "admin/run_texts.html", run, {**context, "title": _("Texts of the run")})


def compare_page(admin: StaffAdmin, request: HttpRequest, run_id: object) -> HttpResponse:
    """Show two of the run's texts side by side.

    The default for `new` is the newest text of the last step that has one; for `old`, see `_one_before`.
    """
    alias, run = current_alias(), _run_or_404(run_id)
    texts = {text.key: text for text in texts_of(alias=alias, run=run)}
    new = texts.get(request.GET.get("new", "")) or next(iter(texts.values()), None)
    old = texts.get(request.GET.get("old", "")) or _one_before(new, list(texts.values()))
    context: dict[str, Any] = {"old": old, "new": new}
    if old is not None and new is not None:
        context["form"] = CompareForm(texts.values(), old=old, new=new)
        try:
            both = [read_text(alias=alias, text=text) for text in (old, new)]
        except SeoGenError as error:
            context["error"] = error
        else:
            context["is_long"] = sum(map(len, both)) > MAX_COMPARED_CHARS
            context["rows"] = [] if context["is_long"] else side_by_side(*both)
            context["is_same"] = both[0] == both[1]
    return _page(admin, request, "admin/run_compare.html", run, {**context, "title": _("Compare texts")})


def _of_artifact(artifact: Artifact) -> Text | None:
    name = artifact.file_path.rpartition("/")[2]
    if not name.endswith(MARKDOWN) and artifact.file_type != OUTPUT:
        return None
    version = replaced_version(artifact)
    is_article = name == ARTICLE
    return Text(f"a{artifact.pk}", artifact.step, version, is_article, is_truncated(artifact), artifact)


def _versions_of(chosen: Text | None, texts: list[Text]) -> list[Text]:
    return [text for text in texts if chosen is not None and text.step == chosen.step]


def _one_before(new: Text | None, texts: list[Text]) -> Text | None:
    """Return the version that `new` replaced, or else an earlier step's text, or any other; None if there is none."""
    if new is None:
        return None
    position = next(index for index, text in enumerate(texts) if text.key == new.key)
    older = [text for text in texts[position + 1 :] if text.step == new.step]
    return next(iter([*older, *texts[position + 1 :], *texts[:position]]), None)


def _decoded(content: bytes) -> str:
    output = decode(content)
    return output.text if output is not None else content.decode(errors="replace")


def _run_or_404(run_id: object) -> Run:
    try:
        return run_get(alias=current_alias(), run_id=str(run_id))
    except UnknownRun as error:
        raise Http404 from error


def _page(
    admin: StaffAdmin, request: HttpRequest, template: str, run: Run, context: dict[str, Any]
) -> TemplateResponse:
    common = {
        **admin.admin_site.each_context(request),
        "keyword": input_of(run, "keyword") or str(run.pk),
        "run": run,
        "object": run,
        "run_url": reverse("admin:runs_run_change", args=[run.pk]),
        "opts": admin.opts,
        "media": admin.media,
    }
    return TemplateResponse(request, template, {**common, **context})
