"""The steps of operations in words: while one is running, and when it is over."""

from __future__ import annotations

from django.utils.translation import gettext as _


def step_name(step: str) -> str:
    """Return what a step is doing, or its name if it is unknown."""
    names = {
        "snapshot": _("opening a snapshot"),
        "dump": _("dumping the database"),
        "account": _("counting rows and comparing the schema"),
        "storage": _("processing the files in storage"),
        "manifest": _("writing the manifest"),
        "bundle": _("writing the bundle"),
        "done": _("done"),
        "recover": _("recovering the base backup to the point in time"),
        "load": _("loading the data"),
        "verify": _("verifying the data"),
        "migrate": _("migrating the schema"),
        "settle": _("marking runs that cannot continue as failed"),
        "close": _("closing the tenant"),
        "swap": _("swapping the databases"),
        "open": _("opening the tenant"),
        "reconcile": _("restoring files and comparing runs"),
        "access": _("granting access"),
        "identity": _("recording the tenant's identity"),
        "files": _("copying files"),
        "mark": _("setting a restore point"),
        "archive": _("archiving the audit log"),
        "list": _("listing what exists"),
        "backups": _("erasing backups and exports"),
        "messages": _("erasing messages and caches"),
        "databases": _("dropping databases"),
        "roles": _("dropping roles"),
        "certificate": _("writing the certificate"),
        "check": _("checking the tenants"),
        "rehearse": _("rehearsing the migrations"),
        "compare": _("comparing schemas"),
        "compare versions": _("comparing versions"),
        "prepare": _("preparing the tenants"),
        "decide": _("deciding"),
        "commit": _("committing"),
        "roll back": _("rolling back"),
    }
    return names.get(step, step)


def step_title(step: str) -> str:
    """Return the name of a step that is over, for display beside the time that it took."""
    titles = {
        "recover": _("point-in-time recovery"),
        "load": _("data loading"),
        "verify": _("data verification"),
        "migrate": _("schema migration"),
        "check": _("check"),
        "rehearse": _("rehearsal"),
        "compare": _("comparison"),
        "prepare": _("preparation"),
        "decide": _("decision"),
        "commit": _("commit"),
        "roll back": _("rollback"),
    }
    return titles.get(step, step)
