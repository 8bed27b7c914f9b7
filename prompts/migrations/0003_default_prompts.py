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
        "f6e8eb2474752bc4c1f4ddbb393c9698afe2dc0d259d2f4c8978b51215d62c06",
        [KEYWORD, LANGUAGE, AUDIENCE],
    ),
    (
        "outline",
        "82663e58e839f30704e076ceee0e0b777a5dc10459eb32dd01bd48afc5b4fdaf",
        [KEYWORD, LANGUAGE, AUDIENCE, output_of("keyword_analysis")],
    ),
    (
        "draft",
        "c86f60486d4c6a0fe03295c2e45b3624edb516c3751057725bf6511e74419f32",
        [KEYWORD, LANGUAGE, AUDIENCE, TONE, output_of("outline")],
    ),
    (
        "final",
        "a756860f41b7467b4910a007b5c74b112584d3de6e522d7ad2e00306a2b71c85",
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
