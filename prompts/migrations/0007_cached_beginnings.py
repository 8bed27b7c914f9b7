"""A better first version of each step's prompt for new tenants: later steps read from the cache what one has read.

A database that belongs to a tenant is left alone: which prompts its runs use is the tenant's decision.
"""

import hashlib
from pathlib import Path

from django.apps.registry import Apps
from django.db import migrations
from django.db.backends.base.schema import BaseDatabaseSchemaEditor

FOLDER = Path(__file__).resolve().parent.parent / "defaults" / "v3"

KEYWORD = {"name": "keyword", "type": "string", "required": True, "description": "The search keyword."}
LANGUAGE = {"name": "language", "type": "string", "required": True, "description": "ja or en."}
AUDIENCE = {"name": "audience", "type": "string", "required": False, "description": "For whom the article is."}
BRAND = {
    "name": "brand",
    "type": "string",
    "required": False,
    "description": "The company that publishes the article, and how it writes.",
}
TONE = {"name": "tone", "type": "string", "required": False, "description": "How the article should sound."}
COMMENT = {
    "name": "review_comment",
    "type": "string",
    "required": False,
    "default": "",
    "description": "What a reviewer wants changed. The run supplies it.",
}


def output_of(step: str, *, required: bool = True) -> dict[str, object]:
    return {"name": step, "type": "string", "required": required, "description": "What the earlier step wrote."}


HEAD = [KEYWORD, LANGUAGE, AUDIENCE, TONE, BRAND]

# Step, sha256 of its template, variables. As in 0003_default_prompts: a better prompt is a new folder and migration.
DEFAULTS = (
    ("keyword_analysis", "ec4c1b44e611ea714d221d845806112e5f65b66951387bfa4e4630c6f96689c0", [*HEAD, COMMENT]),
    (
        "outline",
        "2a1815b730d2a07e211255a9827ffbd94ebe930b67167c9b0c052304ea29360d",
        [*HEAD, output_of("keyword_analysis"), COMMENT],
    ),
    (
        "draft",
        "37b361476f6f50cd9e4c34ff57d2d096fc1c14212088b5bbe6641d426da8486a",
        [*HEAD, output_of("keyword_analysis", required=False), output_of("outline"), COMMENT],
    ),
    (
        "final",
        "b6006754503cf832ecc0e05252399e7bbf6b2a8ee1b89b42b4ec5baa3d682492",
        [
            *HEAD,
            output_of("keyword_analysis", required=False),
            output_of("outline", required=False),
            output_of("draft"),
            COMMENT,
        ],
    ),
)


def improve(apps: Apps, schema_editor: BaseDatabaseSchemaEditor) -> None:
    alias = schema_editor.connection.alias
    if apps.get_model("tenant_identity", "TenantIdentity").objects.using(alias).exists():
        return
    prompts = apps.get_model("prompts", "Prompt").objects.using(alias)
    for step, digest, variables in DEFAULTS:
        content = (FOLDER / f"{step}.j2").read_bytes()
        if hashlib.sha256(content).hexdigest() != digest:
            raise RuntimeError(f"{FOLDER / step}.j2 was edited; restore it and add a new version instead")
        prompts.filter(step=step, version=1).update(content=content.decode(), variables=variables)


class Migration(migrations.Migration):
    dependencies = [("prompts", "0006_notes_of_defaults"), ("tenant_identity", "0001_initial")]

    operations = [migrations.RunPython(improve, migrations.RunPython.noop)]
