"""A tenant's prompts: versions, which of them runs use, and new ones."""

from __future__ import annotations

import json
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from unfold.decorators import action, display
from unfold.enums import ActionVariant
from unfold.widgets import UnfoldAdminTextareaWidget, UnfoldAdminTextInputWidget

from config.admin_base import ReadOnlyAdmin, as_code, as_json, finished, form_page
from config.errors import SeoGenError
from prompts.models import Prompt
from prompts.services import prompt_activate, prompt_create
from tenants.context import current_alias
