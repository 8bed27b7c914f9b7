from collections.abc import Mapping
from typing import Any

from runs.management.commands._control import RunsCommand
from runs.models import Run
from runs.services.pause import run_pause
from runs.services.transition import PAUSE, Transition


class Command(RunsCommand):
    help = "Pause runs: no call to a provider begins until they are resumed."

    def change(self, tenant_id: str, run_id: str, options: Mapping[str, Any]) -> Run:
        return run_pause(tenant_id=tenant_id, run_id=run_id)

    def transition(self, options: Mapping[str, Any]) -> Transition:
        return PAUSE
