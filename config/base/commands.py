"""List the commands of ``seo-gen`` from their file names, without loading Django or the commands."""

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
OUR_APPS = ("audit", "config", "llm", "prompts", "runs", "tenants")


def our_commands() -> dict[str, str]:
    """Return {command: app}, such as {"tenant_create": "tenants"}."""
    ours = {name: app for app in OUR_APPS for name in _names(ROOT / app)}
    # Django's own commands are run with manage.py, even those that we override.
    django = find_spec("django")
    for name in _names(Path(str(django.origin)).parent / "core" if django else ROOT):
        ours.pop(name, None)
    return ours


def summary_of(name: str, app: str) -> str:
    """Return the first line of the command's help, if that is a string literal in its source; otherwise ""."""
    import ast  # only the list of commands needs it

    source = (_folder(ROOT / app) / f"{name}.py").read_text()
    for statement in ast.walk(ast.parse(source)):
        match statement:
            case ast.Assign(targets=[ast.Name(id="help")], value=ast.Constant(value=str(text))):
                return text.strip().partition("\n")[0]
    return ""


def spoken(name: str) -> str:
    """Return the command as it is typed: "cluster receive-wal"."""
    return name.replace("_", " ", 1).replace("_", "-")


def version() -> str:
    """Return the version of the installed package."""
    from importlib import metadata  # slow to load

    return metadata.version("seo-gen")


def _names(app: Path) -> Iterator[str]:
    return (path.stem for path in _folder(app).glob("*.py") if not path.stem.startswith("_"))


def _folder(app: Path) -> Path:
    return app / "management" / "commands"
