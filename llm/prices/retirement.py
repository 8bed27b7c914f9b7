"""Models that their providers retire: by the date that staff enter, or as the price list says."""

from django.utils.translation import gettext as _

from llm.models import LLMModel
from llm.prices.history import today


def retirement_text(model: LLMModel) -> str | None:
    """Return a sentence about a model that was, is being or will be retired; None for any other."""
    names = {"model": str(model), "date": model.retires_on}
    if model.retires_on is None:
        if not model.is_deprecated:
            return None
        return (
            _("According to the price list, which states no date, model %(model)s is being retired or has been.")
            % names
        )
    if model.retires_on <= today():
        return _("Model %(model)s was retired by its provider on %(date)s.") % names
    return _("Model %(model)s will be retired by its provider on %(date)s.") % names
