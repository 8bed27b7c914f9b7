"""A better first version of each step's prompt for new tenants: it takes a reviewer's comment.

A database that belongs to a tenant is left alone: which prompts its runs use is the tenant's decision.
"""

import hashlib
from pathlib import Path

from django.apps.registry import Apps
from django.db import migrations
from django.db.backends.base.schema import BaseDatabaseSchemaEditor

FOLDER = Path(__file__).resolve().parent.parent / "defaults" / "v2"

KEYWORD = {"name": "keyword", "type": "string", "required": True, "description": "The search keyword."}
LANGUAGE = {"name": "language", "type": "string", "required": True, "description": "ja or en."}
AUDIENCE = {"name": "audience", "type": "string", "required": False, "description": "For whom the article is."}
TONE = {"name": "tone", "type": "string", "required": False, "description": "How the article should sound."}
COMMENT = {
    "name": "review_comment",
    "type": "string",
    "required": False,
    "default": "",
    "description": "What a reviewer wants changed. The run supplies it.",
}


def output_of(step: str) -> dict[str, object]:
    return {"name": step, "type": "string", "required": True, "description": "What the earlier step wrote."}


# Step, sha256 of its template, variables. As in 0003_default_prompts: a better prompt is a new folder and migration.
DEFAULTS = (
    (
        "keyword_analysis",
        "4e7ca480e6aba9b6ef82b7f5726244ae3ddd69c1b11a3e1918cf561b6f7441b0",
        [KEYWORD, LANGUAGE, AUDIENCE, COMMENT],
    ),
    (
        "outline",
        "0ae32f81d8cd34afa0c4d6b025ced26b5bdcfd1014f9e621f3c4fe22748c88ae",
        [KEYWORD, LANGUAGE, AUDIENCE, output_of("keyword_analysis"), COMMENT],
    ),
    (
        "draft",
        "e7083f205d6590cb3def8616cb822ce232bae2116a2b2371f9a568e5dd85889e",
        [KEYWORD, LANGUAGE, AUDIENCE, TONE, output_of("outline"), COMMENT],
    ),
    (
        "final",
        "a21fe9fea8cbfd8a1114f9ec35226412ac6a76c3bcd4677b479f376ea2f60c78",
        [KEYWORD, LANGUAGE, AUDIENCE, TONE, output_of("draft"), COMMENT],
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
    dependencies = [("prompts", "0003_default_prompts"), ("tenant_identity", "0001_initial")]

    operations = [migrations.RunPython(improve, migrations.RunPython.noop)]
