"""Read-only admin pages for the audit log."""

from collections import defaultdict
from collections.abc import Callable, Iterator
from operator import itemgetter
from typing import Any, ClassVar

from django.contrib import admin
from django.core.exceptions import FieldDoesNotExist
from django.db import DEFAULT_DB_ALIAS, router
from django.db.models import Q, QuerySet
from django.http import HttpRequest, StreamingHttpResponse
from django.urls import reverse
from django.utils.html import format_html, format_html_join
from django.utils.http import content_disposition_header, urlencode
from django.utils.safestring import SafeString
from django.utils.timezone import localtime
from django.utils.translation import gettext, ngettext
from django.utils.translation import gettext_lazy as _
from unfold.contrib.filters.admin import RangeDateTimeFilter

from audit.control.models import AuditAnchor, ControlAuditLog
from audit.log.actions import ACTIONS
from audit.log.entries import log_export
from audit.log.sentences import as_held, sentences
from audit.models import AuditEntry
from audit.titles import kind_of, title_of
from config.base.times import to_second
from config.site.admin_base import ReadOnlyAdmin, action, as_link
from config.site.documents import as_document, label_of

# The most sentences that a list shows of an entry; the entry's page shows all.
SENTENCES_IN_LIST = 4
READS = ".read"
# Names in entries that are not fields of the model.
OTHER_FIELDS = {"roles": _("roles"), "long_context_over price": _("long context above (tokens)")}


class ActionFilter(admin.SimpleListFilter):
    """Filter by action. The names come from `ACTIONS`, because reading them from the table would scan all of it."""

    title = _("action")
    parameter_name = "event"

    def lookups(self, request: HttpRequest, model_admin: object) -> list[tuple[str, str]]:
        return sorted(((action, title_of(action)) for action in ACTIONS), key=itemgetter(1))

    def queryset(self, request: HttpRequest, queryset: QuerySet[AuditEntry]) -> QuerySet[AuditEntry]:
        return queryset.filter(action=self.value()) if self.value() else queryset


class ReadsFilter(admin.SimpleListFilter):
    """Hide entries about reading unless they are asked for: they would bury the changes."""

    title = _("reads")
    parameter_name = "reads"

    def lookups(self, request: HttpRequest, model_admin: object) -> list[tuple[str, str]]:
        return [("all", gettext("With reads")), ("only", gettext("Reads only"))]

    def choices(self, changelist: Any) -> Iterator[Any]:
        first, *others = super().choices(changelist)
        yield {**first, "display": gettext("Without reads")}
        yield from others

    def queryset(self, request: HttpRequest, queryset: QuerySet[AuditEntry]) -> QuerySet[AuditEntry]:
        if self.value() == "only":
            return queryset.filter(action__endswith=READS)
        # Anyone who asks for one action, such as "run.read", asks for its reads.
        is_asked = self.value() == "all" or ActionFilter.parameter_name in request.GET
        return queryset if is_asked else queryset.exclude(action__endswith=READS)


class AuditEntryAdmin(ReadOnlyAdmin):
    list_display: tuple[str, ...] = ("time", "person", "shown_action", "what", "resource", "sequence")
    list_display_links = ("time", "shown_action")
    list_filter: ClassVar[tuple[Any, ...]] = (ReadsFilter, ActionFilter, ("created_at", RangeDateTimeFilter))
    list_filter_submit = True
    search_fields: ClassVar[tuple[str, ...]] = (
        *("user_id", "details__name", "details__model", "=resource_id", "=resource_type", "=operation_id", "=action"),
    )
    search_help_text = _(
        "Part of a person's or an object's name; or an exact object id, operation id, resource or action, such as"
        " run.create"
    )
    fields: ClassVar[tuple[str, ...]] = (
        *("time", "user_id", "whole_action", "all_sentences", "link", "shown_type", "resource_id"),
        *("shown_details", "operation_id", "sequence", "previous_hash", "entry_hash"),
    )
    show_full_result_count = False
    list_before_template: str | None = "admin/audit_state.html"
    actions_list: ClassVar[tuple[str, ...]] = ("export",)

    # Anyone who sees all entries of a log may export it; a log that people see in parts needs a permission for it.
    export_permission: ClassVar[str] = ""

    def has_export_permission(self, request: HttpRequest) -> bool:
        if self.export_permission:
            return request.user.has_perm(self.export_permission)
        return bool(self.has_view_permission(request))

    @action(description=_("Export"), permissions=["export"])
    def export(self, request: HttpRequest) -> StreamingHttpResponse:
        """Stream the log in the format of `audit export`. The export is recorded before the first line is sent."""
        alias = router.db_for_read(self.model)
        name = f"audit-{alias.rpartition(':')[2]}-{localtime():%Y%m%dT%H%M%S}.jsonl"
        return StreamingHttpResponse(
            log_export(using=alias),
            content_type="application/x-ndjson",
            headers={"Content-Disposition": content_disposition_header(True, name) or ""},
        )

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> Any:
        given = request.GET
        if "resource_id__exact" in given:
            about = f"{kind_of(given.get('resource_type__exact', ''))} {given['resource_id__exact']}".strip()
            extra_context = {**(extra_context or {}), "title": gettext("History of %(name)s") % {"name": about}}
        return super().changelist_view(request, extra_context)

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> Any:
        # An entry never changes, so it has no history.
        return super().change_view(request, object_id, form_url, {**(extra_context or {}), "show_history": False})

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        page: Any = super().get_changelist_instance(request)
        page.result_list = list(page.result_list)
        self._name_resources(request, page.result_list)
        if self.list_before_template:
            log = router.db_for_read(self.model).rpartition(":")[2]
            page.log_state = {**log_state(log), "anchors_url": self._anchors_url(request, log)}
        return page

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> Any:
        entry = super().get_object(request, object_id, from_field)
        if entry is not None:
            entry.resource_url = self._url_of(request, entry)
        return entry

    @admin.display(description=_("time"), ordering="id")
    def time(self, entry: AuditEntry) -> str:
        return to_second(entry.created_at)

    @admin.display(description=_("by"), ordering="user_id")
    def person(self, entry: AuditEntry) -> str:
        return entry.user_id.removeprefix("staff:")

    @admin.display(description=_("action"), ordering="action")
    def shown_action(self, entry: AuditEntry) -> str:
        return title_of(entry.action)

    @admin.display(description=_("description"))
    def what(self, entry: AuditEntry) -> SafeString | str | None:
        found = self._sentences(entry)
        lines = found[:SENTENCES_IN_LIST]
        if len(found) > len(lines):
            more = len(found) - len(lines)
            lines.append(ngettext("and %(n)d more value", "and %(n)d more values", more) % {"n": more})
        return _lines(lines) if lines else self._about(entry)

    @admin.display(description=_("description"))
    def all_sentences(self, entry: AuditEntry) -> SafeString | str | None:
        return _lines(self._sentences(entry)) or self._about(entry)

    @admin.display(description=_("resource"), ordering="resource_type")
    def resource(self, entry: AuditEntry) -> str:
        # The user of a login with a name that no account has.
        stored = _("unknown") if entry.resource_id == "unknown" else entry.resource_id
        return f"{kind_of(entry.resource_type)} {getattr(entry, 'resource_name', stored)}"

    @admin.display(description=_("resource"))
    def shown_type(self, entry: AuditEntry) -> SafeString:
        return _named(kind_of(entry.resource_type), entry.resource_type)

    @admin.display(description=_("action"))
    def whole_action(self, entry: AuditEntry) -> SafeString:
        return _named(title_of(entry.action), entry.action)

    @admin.display(description=_("page"))
    def link(self, entry: Any) -> SafeString | None:
        """Return a link to the entry's object; None if that is gone, or has no page here that the reader may see."""
        url = getattr(entry, "resource_url", None)
        return as_link(url, _name_in(entry) or self.resource(entry)) if url else None

    @admin.display(description=_("details"))
    def shown_details(self, entry: AuditEntry) -> SafeString | None:
        return as_document(entry.details, label=self._key_of(entry), has_raw=True)

    def _name_resources(self, request: HttpRequest, entries: list[AuditEntry]) -> None:
        """Set `resource_name` of each entry whose object people know by a name and the reader may see."""
        ids: dict[str, set[str]] = defaultdict(set)
        for entry in entries:
            ids[entry.resource_type].add(entry.resource_id)
        admins = {entry.resource_type: self._admin_of(entry) for entry in entries}
        names = {
            kind: found.audit_names(request, ids[kind])
            for kind, found in admins.items()
            # Whoever may read the log may not be allowed to see what it is about.
            if found and found.has_view_permission(request)
        }
        for entry in entries:
            name = names.get(entry.resource_type, {}).get(entry.resource_id)
            if name:
                entry.resource_name = name  # type: ignore[attr-defined]

    def _anchors_url(self, request: HttpRequest, log: str) -> str:
        """Return the URL of the list of the log's anchors; "" for people who may not open it."""
        if not request.user.has_perm("audit_control.view_auditanchor"):
            return ""
        site: Any = self.admin_site
        page: str = site.anchors_url()
        return page if log == DEFAULT_DB_ALIAS else f"{page}?{urlencode({'q': log})}"

    def _sentences(self, entry: AuditEntry) -> list[str]:
        found = self._admin_of(entry)
        words = found.audit_words if found else as_held
        return sentences(entry.details, resource_id=entry.resource_id, label=self._label_of(entry), words=words)

    def _about(self, entry: AuditEntry) -> str | None:
        """Return the name that the entry holds, or else its step as people read it; None if it holds neither."""
        name = _name_in(entry)
        step = entry.details.get("step") if isinstance(entry.details, dict) else None
        if name or not isinstance(step, str):
            return name
        found = self._admin_of(entry)
        return str(found.audit_words("step", step)) if found else step

    def _label_of(self, entry: AuditEntry) -> Callable[[str], str]:
        found = self._admin_of(entry)

        def label(field: str) -> str:
            unit = field.removesuffix(" price")
            if unit != field and field not in OTHER_FIELDS:
                return gettext("price of %(unit)s") % {"unit": unit}
            try:
                return str(found.model._meta.get_field(field).verbose_name) if found else field
            except FieldDoesNotExist:
                return str(OTHER_FIELDS.get(field, field))

        return label

    def _key_of(self, entry: AuditEntry) -> Callable[[str], str]:
        field_label = self._label_of(entry)

        def label(key: str) -> str:
            words = label_of(key)
            return words if words != key else field_label(key)

        return label

    def _admin_of(self, entry: AuditEntry) -> Any:
        """Return the model admin of the entry's object; None if this site has none."""
        admins = self.admin_site._registry.values()
        return next((one for one in admins if getattr(one, "resource_type", None) == entry.resource_type), None)

    def _url_of(self, request: HttpRequest, entry: AuditEntry) -> str | None:
        found = self._admin_of(entry)
        if found is None or not found.has_view_permission(request):
            return None
        row = found.get_object(request, entry.resource_id)
        if row is None:
            return None
        return reverse(f"admin:{found.opts.app_label}_{found.opts.model_name}_change", args=[row.pk])


class AuditLogAdmin(AuditEntryAdmin):
    """The audit log in a tenant's own database."""


def log_state(log: str) -> dict[str, Any]:
    """Return what the control database knows about a log; `log` is "default" for the control log, else a tenant's id.

    The result holds the last "anchor"; "verified", the last "audit.verify" entry that covers the log; and "problems",
    the number of problems that this verification found in all logs that it covered. Each is None if there is none yet.
    """
    tenant_id = "" if log == DEFAULT_DB_ALIAS else log
    anchors = AuditAnchor.objects.using(DEFAULT_DB_ALIAS).filter(tenant_id=tenant_id)
    entries = ControlAuditLog.objects.using(DEFAULT_DB_ALIAS).filter(action="audit.verify")
    # Each verification covers the control log.
    if tenant_id:
        of_all = Q(resource_type="audit_log", resource_id="*")
        entries = entries.filter(of_all | Q(resource_type="tenant", resource_id=tenant_id))
    verified = entries.filter(details__has_key="problems").order_by("-id").first()
    return {
        "anchor": anchors.order_by("-id").first(),
        "verified": verified,
        "problems": (verified.details or {}).get("problems") if verified else None,
    }


def _lines(lines: list[str]) -> SafeString:
    return format_html_join("", "<div>{}</div>", ((one,) for one in lines))


def _named(words: str, name: str) -> SafeString:
    """Show `words` with the name that the log uses beside them, because the search finds only that name."""
    return format_html("{} <code>{}</code>", words, name) if words != name else format_html("<code>{}</code>", name)


def _name_in(entry: AuditEntry) -> str | None:
    details = entry.details if isinstance(entry.details, dict) else {}
    name = details.get("name") or details.get("model")
    return str(name) if name else None
