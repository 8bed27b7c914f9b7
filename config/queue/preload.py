"""Load what a worker needs before it takes its first step.

An SDK takes a second or two of CPU to import. Other threads hardly run meanwhile, so the first calls of a worker
would delay the others, and make Valkey seem slow to answer.
"""

from __future__ import annotations

import logging
from typing import Any

from celery import signals
from django.db import DatabaseError, InterfaceError

from config.base.databases import CONTROL
from llm.clients.registry import load_sdk
from llm.models import LLMProvider
from llm.selectors import pipeline

logger = logging.getLogger(__name__)


@signals.worker_init.connect
def load_sdks(**_signal: Any) -> None:
    """Import the SDKs of the pipeline's providers. Without the control database, they are imported when needed."""
    try:
        providers = {step.provider_id for step in pipeline()}
        wires = set(LLMProvider.objects.using(CONTROL).filter(pk__in=providers).values_list("wire", flat=True))
    except (DatabaseError, InterfaceError) as error:
        extra = {"action": "worker.preload", "error": type(error).__name__}
        logger.info("SDKs not loaded, the control database cannot be used", extra=extra)
        return
    for wire in sorted(wires):
        load_sdk(wire)
