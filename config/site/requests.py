"""Ignore or reject NUL characters and malformed ids, so that no page of either admin site has to handle them.

PostgreSQL cannot store NUL in text, and most models' ids must be numbers or UUIDs. Without these checks, both would
cause a server error.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.contrib.admin.utils import unquote
from django.core.exceptions import ValidationError
from django.db import DataError
from django.db.models import Model
from django.http import Http404, HttpRequest, QueryDict
from django.utils.translation import gettext as _

from config.base.errors import SeoGenError

NUL = "\x00"


class InvalidRequest(SeoGenError):
    """A submitted form contains a NUL character, which cannot be stored or looked up."""

    code = "request_invalid"


@contextmanager
def wellformed(request: HttpRequest, model: type[Model] | None, arguments: dict[str, Any]) -> Iterator[None]:
    """Serve a request only if its URL could name an existing object; `arguments` are those of the URL pattern.

    Raises `Http404` for a path with a NUL and for an id that `model` cannot have. Parameters with a NUL are ignored.
    The fields of a form refuse a NUL; if another value of a POST has one and causes an error, `InvalidRequest` is
    raised.
    """
    _require_possible(request, model, arguments)
    if _holds_nul(request.GET):
        request.GET = _without_nul(request.GET)  # type: ignore[assignment]
    try:
        yield
    except (DataError, ValueError) as error:
        if not (request.method == "POST" and _holds_nul(request.POST)):
            raise
        raise InvalidRequest(_("The form contains a NUL character, which cannot be stored.")) from error


def _require_possible(request: HttpRequest, model: type[Model] | None, arguments: dict[str, Any]) -> None:
    if NUL in request.path:
        raise Http404
    object_id = arguments.get("object_id")
    key = model._meta.pk if model else None
    if object_id is None or key is None:
        return
    try:
        key.run_validators(key.to_python(unquote(str(object_id))))
    except (ValidationError, ValueError) as error:
        raise Http404 from error


def _holds_nul(parameters: QueryDict) -> bool:
    return any(NUL in text for name, values in parameters.lists() for text in (name, *values))


def _without_nul(parameters: QueryDict) -> QueryDict:
    kept = QueryDict(mutable=True)
    for name, values in parameters.lists():
        clean = [value for value in values if NUL not in value]
        if clean and NUL not in name:
            kept.setlist(name, clean)
    return kept
