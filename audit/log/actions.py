"""The names of all audited actions. Any other name is refused, so that a log can be searched by action."""

TENANT_ACTIONS = frozenset(
    {
        "tenant.create",
        "tenant.create.undo",
        "tenant.activate",
        "tenant.suspend",
        "tenant.resume",
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
        "tenant.kept.remove",
        "tenant.orphans.remove",
        "tenant.delete",
        "tenant.delete.step",
        "tenant.delete.complete",
        "tenant.erased.return",
        "erasure.verify",
    }
)

BACKUP_ACTIONS = frozenset(
    {
        "backup.daily",
        "backup.verify",
        "backup.remove",
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
        "llm.prices.refresh",
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
        "group.create",
        "group.change",
        "group.delete",
    }
)

PROMPT_ACTIONS = frozenset({"prompt.create", "prompt.change", "prompt.activate"})

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
        "run.read",
        "step.start",
        "step.complete",
        "step.fail",
        "step.retry",
        "step.requeue",
        "artifact.read",
    }
)

ACTIONS = TENANT_ACTIONS | BACKUP_ACTIONS | CONFIGURATION_ACTIONS | PROMPT_ACTIONS | AUDIT_ACTIONS | RUN_ACTIONS
