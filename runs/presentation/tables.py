"""Print tables of one run or several."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from django.utils.translation import gettext as _

from config.base.output import print_table
from runs.models import RunStatus, StepStatus
from runs.presentation.cost import cost_text
from runs.presentation.fallback import rerouted_line
from runs.presentation.times import duration, local, local_time, seconds_between
from runs.presentation.waiting import waiting_text
from runs.types import CallsDocument, ListedRun, RunDocument, StepDocument


def print_run(document: RunDocument) -> None:
    """Print a run's state, steps, outputs, artifacts and cost on stdout."""
    for line in _head(document):
        print(line)
    day = document["created_at"]
    print()
    columns = [_("step"), _("status"), _("model"), _("tokens in/out"), _("calls"), _("retries"), _("started")]
    rows = [_step_row(step, document) for step in document["steps"]]
    print_table([*columns, _("seconds"), _("summary")], rows)
    outputs = [step for step in document["steps"] if step["output_path"]]
    if outputs:
        print()
        print_table(
            [_("step"), _("completed"), _("version"), _("output"), "sha256"],
            [
                (
                    step["step"],
                    local_time(step["completed_at"], day=day),
                    step["version"],
                    step["output_path"] or "",
                    step["output_digest"] or "",
                )
                for step in outputs
            ],
        )
    if document["artifacts"]:
        print()
        rows = [
            (marked(artifact["file_path"], artifact["is_truncated"]), artifact["digest"] or "")
            for artifact in document["artifacts"]
        ]
        print_table([_("artifact"), "sha256"], rows)
    print()
    print(_("Cost: %(cost)s") % {"cost": cost_text(document["cost"])})


def print_runs(runs: Sequence[ListedRun], *, all_tenants: bool = False) -> None:
    """Print a list of runs on stdout; with `all_tenants`, it has their tenants, but neither retries nor keywords."""
    columns: dict[str, Callable[[ListedRun], object]] = {
        _("id"): lambda run: run["id"],
        _("status"): state_text,
        _("current step"): lambda run: run["current_step"] or "",
        _("retries"): lambda run: run["retries"] or "",
        _("keyword"): lambda run: run["keyword"] or "",
        _("created"): lambda run: local(run["created_at"]),
        _("error"): lambda run: run["error"] or "",
    }
    if all_tenants:
        columns = {_("tenant"): lambda run: run["tenant_id"], **columns}
        del columns[_("retries")], columns[_("keyword")]
    print_table(list(columns), [[value(run) for value in columns.values()] for run in runs])


def state_text(run: ListedRun) -> str:
    """Return the run's status, how long ago it was created, paused or ended, and whether an output is truncated."""
    age = {"age": duration(run["age_s"])}
    text = {
        RunStatus.PENDING: _("pending, created %(age)s ago"),
        RunStatus.RUNNING: _("running, created %(age)s ago"),
        RunStatus.PAUSED: _("paused %(age)s ago"),
        RunStatus.COMPLETED: _("completed %(age)s ago"),
        RunStatus.FAILED: _("failed %(age)s ago"),
    }[RunStatus(run["status"])]
    return marked(text % age, run["is_truncated"])


def marked(text: str, is_truncated: bool) -> str:
    """Return the text, marked as truncated if `is_truncated`."""
    return _("%(text)s (truncated)") % {"text": text} if is_truncated else text


def failure_text(document: RunDocument) -> str:
    """Return a text that says that a run failed and, if a step failed, in which one and why."""
    failed = next((step for step in document["steps"] if step["status"] == StepStatus.FAILED), None)
    if failed is None:
        return _("Run %(id)s of tenant %(tenant_id)s failed.") % document
    return _("Run %(run)s of tenant %(tenant)s failed in step %(step)s: %(reason)s") % {
        "run": document["id"],
        "tenant": document["tenant_id"],
        "step": failed["step"],
        "reason": failed["error_message"] or "-",
    }


def _head(document: RunDocument) -> Iterator[str]:
    status = marked(document["status"], document["is_truncated"])
    yield _("Run %(id)s of tenant %(tenant_id)s: %(status)s") % {**document, "status": status}
    if document["waiting"]:
        reason = waiting_text(document["waiting"], now=document["read_at"])
        yield _("Why it is waiting: %(reason)s") % {"reason": reason}
    ended = _("completed") if document["status"] == RunStatus.COMPLETED else _("failed")
    named = ((_("created"), "created_at"), (_("started"), "started_at"), (ended, "ended_at"))
    moments = [(label, local(document[name])) for label, name in named]  # type: ignore[literal-required]
    yield "; ".join(f"{label} {moment}" for label, moment in moments if moment)
    for step in document["steps"]:
        if line := rerouted_line(step):
            yield line
        if step["approved_at"]:
            yield _("Step %(step)s was approved by %(by)s at %(time)s.") % {
                "step": step["step"],
                "by": step["approved_by"] or "-",
                "time": local(step["approved_at"]),
            }
        if step["review_comment"]:
            yield _("The run was sent back to step %(step)s: %(comment)s") % {
                "step": step["step"],
                "comment": step["review_comment"],
            }


def _step_row(step: StepDocument, document: RunDocument) -> tuple[object, ...]:
    return (
        step["step"],
        marked(step["status"], step["is_truncated"]),
        f"{step['llm_provider']}/{step['llm_model']}",
        usage_text(step["token_usage"]),
        calls_text(step["calls"]),
        retries_text(step),
        local_time(step["started_at"], day=document["created_at"]),
        seconds_text(step, document["read_at"]),
        step["error_message"] or step["summary"] or "",
    )


def usage_text(usage: dict[str, int] | None) -> str:
    """Return the input and output tokens, and how many input tokens were read from a cache; "" without usage."""
    if not usage:
        return ""
    tokens = {"input": usage.get("input", 0), "output": usage.get("output", 0), "cached": usage.get("cached_read", 0)}
    if not tokens["cached"]:
        return f"{tokens['input']}/{tokens['output']}"
    return _("%(input)d (%(cached)d cached)/%(output)d") % tokens


def calls_text(calls: CallsDocument) -> str:
    if not calls["unknown"]:
        return str(calls["count"])
    return _("%(count)d (%(unknown)d unknown)") % calls


def retries_text(step: StepDocument) -> str:
    """Return how many attempts failed, and how many in a row have since been lost with their worker."""
    if not step["lost_count"]:
        return str(step["retry_count"])
    return _("%(retry_count)d + %(lost_count)d lost") % step


def seconds_text(step: StepDocument, now: str) -> str:
    """Return the seconds that the step took, or has taken so far; "" if it is not running and has not completed."""
    if step["seconds"] is not None:
        return f"{step['seconds']:.1f}"
    is_running = step["status"] == StepStatus.RUNNING and step["started_at"]
    return f"{seconds_between(str(step['started_at']), now):.0f}" if is_running else ""
