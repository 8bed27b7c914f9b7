"""The names of all audited actions. Any other name is refused, so that a log can be searched by action."""

TENANT_ACTIONS = frozenset(
    {
        "tenant.create",
        "tenant.create.undo",
        "tenant.activate",
        "tenant.access.ask",
        "tenant.access.open",
        "tenant.access.close",
        "tenant.suspend",
        "tenant.resume",
        "tenant.limit",
        "tenant.budget",
        "tenant.budget.warn",
        "tenant.recover",
        "tenant.dbshell",
        "tenant.command",
        "tenant.migrate",
        "tenant.migrate.commit",
        "tenant.migrate.complete",
        "tenant.migrate.undo",
        "tenant.backup",
        "tenant.backup.complete",
        "tenant.backup.fail",
        "tenant.export",
        "tenant.export.complete",
        "tenant.export.fail",
        "tenant.restore",
        "tenant.restore.complete",
        "tenant.restore.undo",
        "tenant.import",
        "tenant.import.complete",
        "tenant.import.undo",
        "tenant.rotate",
        "tenant.rotate.complete",
        "tenant.drill",
        "tenant.drill.complete",
        "tenant.drill.fail",
        "tenant.kept.remove",
        "tenant.orphans.remove",
        "tenant.delete",
        "tenant.delete.step",
        "tenant.delete.complete",
        "tenant.erased.return",
        "erasure.verify",
    }
)

OPERATION_ACTIONS = frozenset(
    {
        "operation.request",
        "operation.start",
        "operation.end",
        "operation.recover",
        "approval.request",
        "approval.approve",
        "approval.reject",
        "approval.withdraw",
        "approval.use",
    }
)

BACKUP_ACTIONS = frozenset(
    {
        "backup.daily",
        "backup.verify",
        "backup.remove",
        "backup.download",
        "file.remove",
        "cluster.backup",
        "cluster.backup.complete",
        "cluster.backup.fail",
        "cluster.backup.verify",
        "cluster.backup.remove",
        "cluster.restore_point",
        "cluster.wal.receive",
        "cluster.wal.remove",
        "cluster.wal.verify",
    }
)

CONFIGURATION_ACTIONS = frozenset(
    {
        "control.rotate",
        "control.setup",
        "server.create",
        "server.change",
        "server.delete",
        "llm.catalogue.seed",
        "llm.check",
        "llm.prices.begin",
        "llm.prices.refresh",
        "llm.prices.set",
        "llm.provider.create",
        "llm.provider.change",
        "llm.provider.delete",
        "llm.model.create",
        "llm.model.change",
        "llm.model.delete",
        "step_default.create",
        "step_default.change",
        "step_default.delete",
        "user.create",
        "user.change",
        "user.delete",
        "user.roles",
        # Django's groups, which roles replaced.
        "group.create",
        "group.change",
        "group.delete",
        "tenant_group.create",
        "tenant_group.change",
        "tenant_group.delete",
    }
)

SIGN_IN_ACTIONS = frozenset(
    {
        "login.complete",
        "login.fail",
        "login.lock",
        "login.unlock",
        "login.permit",
        "session.close",
        "session.end",
        "second_factor.enable",
        "second_factor.disable",
        "second_factor.reset",
        "second_factor.codes",
        "second_factor.recover",
        "second_factor.fail",
        "second_factor.lock",
        "openid.link",
        "openid.unlink",
    }
)

PROMPT_ACTIONS = frozenset(
    {
        "prompt.create",
        "prompt.change",
        "prompt.activate",
        "prompt.deactivate",
        "prompt.preview",
        "prompt.test",
        "prompt.test.complete",
        "prompt.test.fail",
        "prompt.copy",
        "prompt.copy.preview",
        "prompt.copy.commit",
        "prompt.copy.complete",
        "prompt.copy.undo",
    }
)

AUDIT_ACTIONS = frozenset({"audit.verify", "audit.anchor", "audit.archive", "audit.export"})

RUN_ACTIONS = frozenset(
    {
        "run.create",
        "run.start",
        "run.complete",
        "run.fail",
        "run.pause",
        "run.resume",
        "run.cancel",
        "run.retry",
        "run.approve",
        "run.send_back",
        "run.read",
        "run.reconcile",
        "cost.reconcile",
        "cost.compare",
        "cost.export",
        "step.start",
        "step.complete",
        "step.fail",
        "step.retry",
        "step.return",
        "step.reroute",
        "artifact.read",
        "step_override.create",
        "step_override.change",
        "step_override.delete",
    }
)

ACTIONS = (
    TENANT_ACTIONS
    | OPERATION_ACTIONS
    | BACKUP_ACTIONS
    | CONFIGURATION_ACTIONS
    | SIGN_IN_ACTIONS
    | PROMPT_ACTIONS
    | AUDIT_ACTIONS
    | RUN_ACTIONS
)
