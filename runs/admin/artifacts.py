"""Admin pages for the artifacts of a tenant's runs; staff can download them."""

from __future__ import annotations

from io import BytesIO
from typing import Any

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import FileResponse, Http404, HttpRequest
from django.http.response import HttpResponseBase
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from config.site.admin_base import ReadOnlyAdmin
from config.site.documents import as_document
from runs.admin.cells import (
    download_link,
    file_name_of,
    input_of,
    is_truncated,
    marked,
    replaced_version,
    run_link,
    size_of,
    with_truncation,
)
from runs.admin.filters import StepFilter
from runs.models import Artifact
from runs.services.read_texts import artifact_read
from runs.services.versions import OUTPUT
from tenants.routing.context import current_alias

NEWEST = 1_000
DOWNLOAD_BLOCK_BYTES = 64 * 1024
# `Artifact.file_type` of an article.
MARKDOWN = "markdown"


class TypeFilter(admin.SimpleListFilter):
    """Offers the types of the newest artifacts. Finding all types would mean reading all rows."""

    title = gettext_lazy("type")
    parameter_name = "file_type"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        newest = Artifact.objects.using(current_alias()).order_by("-pk").values_list("file_type", flat=True)
        return [(one, _type_name(one)) for one in sorted(set(newest[:NEWEST]))]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Artifact]) -> QuerySet[Artifact]:
        return queryset.filter(file_type=self.value()) if self.value() else queryset


class ArtifactAdmin(ReadOnlyAdmin):
    audit_resource = "artifact"
    list_display = ("file_name", "step", "replaced", "run_link", "shown_type", "size", "created_at", "download_link")
    list_filter = (StepFilter, TypeFilter, "created_at")
    show_full_result_count = False
    list_select_related = ("run",)
    search_fields = ("=run__id", "file_path")
    search_help_text = gettext_lazy("A run's id, or part of a path")
    ordering = ("-id",)
    fields = (
        *("file_name", "download_link", "run_link", "step", "replaced", "shown_type", "file_path", "digest", "size"),
        *("shown_metadata", "created_at"),
    )

    def get_custom_urls(self) -> Any:
        return (("<int:artifact_id>/download/", "runs_artifact_download", self.download),)

    def download(self, request: HttpRequest, artifact_id: int, model_admin: object) -> HttpResponseBase:
        """Send the file once its digest is verified and the download is recorded in the audit log.

        Always sent as an attachment: text that an LLM wrote must not run in a staff member's browser.
        """
        if not self.has_view_permission(request):
            raise PermissionDenied
        alias = current_alias()
        artifact = Artifact.objects.using(alias).filter(pk=artifact_id).first()
        if artifact is None:
            raise Http404
        content = artifact_read(alias=alias, artifact=artifact)
        response = FileResponse(
            BytesIO(content),
            as_attachment=True,
            filename=file_name_of(artifact),
            content_type="application/octet-stream",
        )
        response.block_size = DOWNLOAD_BLOCK_BYTES
        return response

    def get_queryset(self, request: HttpRequest) -> QuerySet[Artifact]:
        return with_truncation(super().get_queryset(request))

    @admin.display(description=gettext_lazy("file"), ordering="file_path")
    def file_name(self, artifact: Artifact) -> SafeString:
        return marked(format_html("{}", file_name_of(artifact)), is_truncated(artifact))

    @admin.display(description=gettext_lazy("replaced version"))
    def replaced(self, artifact: Artifact) -> str | None:
        return replaced_version(artifact)

    @admin.display(description=gettext_lazy("run"))
    def run_link(self, artifact: Artifact) -> SafeString:
        return run_link(artifact.run_id, input_of(artifact.run, "keyword"))

    @admin.display(description=gettext_lazy("type"), ordering="file_type")
    def shown_type(self, artifact: Artifact) -> str:
        return _type_name(artifact.file_type)

    @admin.display(description=gettext_lazy("size"))
    def size(self, artifact: Artifact) -> str | None:
        return size_of(artifact)

    @admin.display(description=gettext_lazy("content"))
    def download_link(self, artifact: Artifact) -> SafeString:
        return download_link(artifact)

    @admin.display(description=gettext_lazy("metadata"))
    def shown_metadata(self, artifact: Artifact) -> SafeString | None:
        return as_document(artifact.metadata, hidden=("size_bytes",))


def _type_name(file_type: str) -> str:
    return {OUTPUT: _("output"), MARKDOWN: "Markdown"}.get(file_type, file_type)
