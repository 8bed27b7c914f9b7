"""The first version of each step's prompt, active in every new tenant's database."""

import hashlib
from pathlib import Path

from django.apps.registry import Apps
from django.db import migrations
from django.db.backends.base.schema import BaseDatabaseSchemaEditor

FOLDER = Path(__file__).resolve().parent.parent / "defaults" / "v1"

KEYWORD = {"name": "keyword", "type": "string", "required": True, "description": "The search keyword."}
LANGUAGE = {"name": "language", "type": "string", "required": True, "description": "ja or en."}
AUDIENCE = {"name": "audience", "type": "string", "required": False, "description": "For whom the article is."}
TONE = {"name": "tone", "type": "string", "required": False, "description": "How the article should sound."}


def output_of(step: str) -> dict[str, object]:
    return {"name": step, "type": "string", "required": True, "description": "What the earlier step wrote."}


# Step, sha256 of its template, variables. The digests keep this migration what it was: a better prompt is a new version
# in a new folder and migration, never an edit.
DEFAULTS = (
    (
        "keyword_analysis",
        "f8a193c0c867f3348a5e0ef11f8b0a769cb2465c97621c196637beed2d211736",
        [KEYWORD, LANGUAGE, AUDIENCE],
    ),
    (
        "outline",
        "b030cad1824e71e9ccb47465f37c0bd86f309fe8447859bcdf38d1d302fd3419",
        [KEYWORD, LANGUAGE, AUDIENCE, output_of("keyword_analysis")],
    ),
    (
        "draft",
        "01869ee1e095a0d943498fad07ba7a01de5aab11aa045bc80e3aee006c5ac99f",
        [KEYWORD, LANGUAGE, AUDIENCE, TONE, output_of("outline")],
    ),
    (
        "final",
        "5bc35fc3a95b6de102ff1ea84a53e1cd1be8b0ceaa45bece6525ec35d889d409",
        [KEYWORD, LANGUAGE, AUDIENCE, TONE, output_of("draft")],
    ),
)


def seed(apps: Apps, schema_editor: BaseDatabaseSchemaEditor) -> None:
    prompts = apps.get_model("prompts", "Prompt").objects.using(schema_editor.connection.alias)
    for step, digest, variables in DEFAULTS:
        content = (FOLDER / f"{step}.j2").read_bytes()
        if hashlib.sha256(content).hexdigest() != digest:
            raise RuntimeError(f"{FOLDER / step}.j2 was edited; restore it and add a new version instead")
        prompts.create(step=step, version=1, content=content.decode(), variables=variables, is_active=True)


class Migration(migrations.Migration):
    dependencies = [("prompts", "0002_used_prompts_are_immutable")]

    operations = [migrations.RunPython(seed, migrations.RunPython.noop)]
