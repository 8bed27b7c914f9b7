"""Check what must hold once everything has come to rest. Problems are reported as texts; an unreadable file raises."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from uuid import UUID

from audit.models import AuditLog
from audit.verification.verify import audit_verify
from runs.costs.reconcile import cost_reconcile
from runs.models import WORKING, Artifact, Call, CallStatus, Run, RunStatus, Step, StepStatus
from runs.output import decode
from runs.storage import is_version_path, read
from runs.summaries.reconcile import run_reconcile
from tenants.files import tenant_storage
from tenants.routing.context import tenant_context
from tests.runs.chaos.calls import Comparer, Comparison, Maker
from tests.runs.chaos.people import AUDITED, Records
from tests.runs.chaos.provider import Moody, mark, mark_of
from tests.runs.chaos.rest import last_actions
from tests.runs.chaos.system import System

# A file that a killed process was writing; no one reads it.
PARTIAL = ".partial"


@dataclass
class Findings:
    problems: list[str] = field(default_factory=list)
    statuses: Counter[str] = field(default_factory=Counter)
    takeovers: int = 0
    returned: int = 0
    attempts: int = 0
    outputs_read: int = 0
    versions: int = 0
    calls: Comparison = field(default_factory=Comparison)


def check(tenant_ids: list[str], records: Records, moody: Moody, system: System) -> Findings:
    """Check everything, and return the findings. Call this once all processes but the servers have ended."""
    found = Findings()
    comparer = Comparer(moody.ledger, mark_of, gaps=system.database_gaps, concurrency=system.plan.concurrency)
    makers = {
        f"{one.name}@chaos/{one.process.pid}": Maker(one.was_killed, one.is_dismissed, one.was_frozen)
        for one in system.members
    }
    for tenant_id in tenant_ids:
        with tenant_context(tenant_id) as alias:
            tenant = _Tenant(tenant_id, alias, found)
            tenant.check_runs()
            tenant.check_deeds(records)
            tenant.check_steps()
            tenant.check_files()
            tenant.compare_calls(comparer, makers)
    found.calls = comparer.finish()
    found.problems += [*found.calls.problems, *_control(), *_system(system)]
    return found


class _Tenant:
    """Checks one tenant's database and files; to be used in the tenant's context."""

    def __init__(self, tenant_id: str, alias: str, found: Findings) -> None:
        self.tenant_id = tenant_id
        self.alias = alias
        self.found = found
        self.runs = {run.pk: run for run in Run.objects.using(alias).all()}
        self.steps = list(Step.objects.using(alias).order_by("run_id", "position"))
        self.calls = list(Call.objects.using(alias).order_by("id"))
        self.entries = list(AuditLog.objects.using(alias).order_by("sequence"))
        self.artifacts = list(Artifact.objects.using(alias).all())

    def check_runs(self) -> None:
        """Check that every run has ended in the way that its last action implies."""
        last = last_actions(self.alias)
        for run in self.runs.values():
            self.found.statuses[run.status] += 1
            action = last.get(str(run.pk), "")
            expected = RunStatus.FAILED if action == "run.cancel" else RunStatus.COMPLETED
            if run.status != expected:
                self._problem(run.pk, f"is {run.status} after {action}")
            if run.pause_cause is not None or (run.status == RunStatus.COMPLETED) != (run.current_step is None):
                self._problem(run.pk, f"is {run.status}, paused by {run.pause_cause}, at {run.current_step}")

    def check_deeds(self, records: Records) -> None:
        """Check that the outcomes that people saw match the audit log: done exactly once, or not at all."""
        seen = Counter(entry.operation_id for entry in self.entries if entry.action in AUDITED.values())
        for deed in records.deeds:
            if deed.tenant_id != self.tenant_id:
                continue
            times = seen[deed.operation_id]
            allowed = {"done": (1,), "refused": (0,), "unclear": (0, 1)}[deed.outcome]
            if times not in allowed:
                self._problem(deed.run_id, f"{deed.action} was {deed.outcome}, and is {times} times in the audit log")

    def check_steps(self) -> None:
        usage: dict[int, Counter[str]] = defaultdict(Counter)
        for call in self.calls:
            if call.status == CallStatus.SETTLED:
                usage[call.step_id].update(call.token_usage or {})
        completions = Counter(entry.resource_id for entry in self.entries if entry.action == "step.complete")
        for step in self.steps:
            self._check_step(step, completions[str(step.pk)])
            if Counter(step.token_usage or {}) != usage[step.pk]:
                self._problem(
                    step.run_id, f"{step.step} counts {step.token_usage}; its calls used {dict(usage[step.pk])}"
                )
        actions = Counter(
            "takeover" if (entry.details or {}).get("reason") == "lease expired" else entry.action
            for entry in self.entries
        )
        self.found.takeovers += actions["takeover"]
        self.found.returned += actions["step.return"]
        self.found.attempts += actions["step.start"]

    def _check_step(self, step: Step, completions: int) -> None:
        run = self.runs[step.run_id]
        if step.status == StepStatus.RUNNING or run.status in WORKING:
            self._problem(step.run_id, f"{step.step} is {step.status}")
        if run.status == RunStatus.COMPLETED and step.status != StepStatus.COMPLETED:
            self._problem(step.run_id, f"is completed, but {step.step} is {step.status}")
        if completions > step.version:
            self._problem(step.run_id, f"{step.step} was completed {completions} times in {step.version} versions")
        if step.status == StepStatus.COMPLETED:
            self._read_output(step)
        elif step.output_path is not None:
            self._problem(step.run_id, f"{step.step} is {step.status} and has an output")

    def _read_output(self, step: Step) -> None:
        """Check that the output and the article match their digests and each other, and belong to this step.

        The output must come from a settled call.
        """
        output = decode(read(str(step.output_path), step.output_digest))
        self.found.outputs_read += 1
        keyword = self._keyword(step.run_id)
        if output is None or mark_of(output.text) != mark(keyword, step.step) or output.version != step.version:
            self._problem(step.run_id, f"{step.step} has the output of another step or version")
            return
        call = next((call for call in self.calls if call.pk == output.call_id), None)
        if call is None or (call.step_id, call.status) != (step.pk, CallStatus.SETTLED):
            self._problem(step.run_id, f"{step.step}: the output's call {output.call_id} is not settled")
        current = [row for row in self._artifacts_of(step) if not is_version_path(row.file_path)]
        if len(current) != 1 or read(current[0].file_path, current[0].digest) != output.text.encode():
            self._problem(step.run_id, f"{step.step} has {len(current)} articles, or not that of its output")

    def check_files(self) -> None:
        """Check that each row has its file, and that a row names each current file of a completed step."""
        listed = {file.path for file in tenant_storage.objects_of(self.tenant_id) if not file.path.endswith(PARTIAL)}
        rows = {row.file_path: row.digest for row in self.artifacts}
        for path, digest in rows.items():
            read(path, digest)
            self.found.versions += is_version_path(path)
        outputs = {step.output_path for step in self.steps if step.output_path}
        for path in sorted(listed - rows.keys() - outputs):
            self._judge_file(path)

    def _judge_file(self, path: str) -> None:
        """Report a file that no row names, unless its step is not completed, or it is a copy of a replaced version."""
        run_id, step_name = path.split("/")[2:4]
        step = next((one for one in self.steps if (str(one.run_id), one.step) == (run_id, step_name)), None)
        if step is None or (step.status == StepStatus.COMPLETED and not is_version_path(path)):
            self.found.problems.append(f"{path} belongs to no output")

    def compare_calls(self, comparer: Comparer, makers: dict[str, Maker]) -> None:
        owners = {
            (entry.resource_id, (entry.details or {}).get("token")): (entry.details or {}).get("worker", "")
            for entry in self.entries
            if entry.action == "step.start"
        }

        def maker_of(call: Call) -> tuple[str, Maker] | None:
            name = owners.get((str(call.step_id), call.lease_token), "")
            return (name, makers[name]) if name in makers else None

        by_step = defaultdict(list)
        for call in self.calls:
            by_step[call.step_id].append(call)
        for step in self.steps:
            comparer.compare(mark(self._keyword(step.run_id), step.step), by_step[step.pk], maker_of)

    def _artifacts_of(self, step: Step) -> list[Artifact]:
        return [row for row in self.artifacts if (row.run_id, row.step) == (step.run_id, step.step)]

    def _keyword(self, run_id: UUID) -> str:
        return str((self.runs[run_id].config or {})["keyword"])

    def _problem(self, run_id: UUID | None, text: str) -> None:
        self.found.problems.append(f"{self.tenant_id} run {run_id}: {text}")


def _control() -> Iterator[str]:
    """Yield what is wrong with the run summaries, the daily costs and the audit logs."""
    for found in run_reconcile(tenant_id=None, check=True):
        if found.problem or found.difference_count or found.waiting:
            yield f"summaries of {found.tenant_id}: {found}"
    for costs in cost_reconcile(tenant_id=None, check=True):
        if costs.problem or costs.differing:
            yield f"daily costs of {costs.tenant_id}: {costs}"
    for report in audit_verify():
        yield from (
            f"audit log of {report.tenant_id or 'the control database'}: {problem}" for problem in report.problems
        )


def _system(system: System) -> Iterator[str]:
    yield from (f"{name} ended by itself:\n{_end_of(system, name)}" for name in system.deserters)


def _end_of(system: System, name: str) -> str:
    return "".join(one.log.read_text()[-2000:] for one in system.members if one.name == name)
