"""Send a browser back to the login page with an error's message."""

from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse

from config.base.errors import SeoGenError

# The key in the browser's session that holds the sentence.
REFUSED = "sign_in_refused"


def refuse(request: HttpRequest, error: SeoGenError) -> HttpResponse:
    request.session[REFUSED] = str(error)
    return HttpResponseRedirect(reverse("admin:login"))


def refusal_of(request: HttpRequest) -> str:
    """Return the message for the login page and forget it; "" if there is none."""
    return str(request.session.pop(REFUSED)) if REFUSED in request.session else ""
