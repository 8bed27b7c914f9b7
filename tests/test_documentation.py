"""The documentation matches the code: commands, variables, dependencies, links."""

import argparse
import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.core.management import find_commands, load_command_class
from django.core.management.base import BaseCommand

from config.base.commands import OUR_APPS
from config.stack.lifecycle import SERVICES
from config.stack.paths import CHECKOUT
from llm.keys import KEY_VARIABLES

pytestmark = pytest.mark.unit

DOCS = CHECKOUT / "docs"
MANUAL = DOCS / "manual"
PAGES = sorted([*DOCS.rglob("*.md"), *(CHECKOUT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md"))])
COMMANDS = {
    name: app for app in OUR_APPS for name in find_commands(str(CHECKOUT / app / "management")) if name != "__init__"
}
SECTIONS = ("## Example", "## Exit codes", "## If it is killed", "## Errors and what to do")
# Folders of the machines on which the code was written or run.
MACHINE_PATH = re.compile(r"(?<![\w.…])/(?:home|root|tmp|work|Users|mnt|private)/")
# What stands for a file of the checkout, or a test in one.
NAMED_FILE = re.compile(r"(?:audit|benchmarks|config|docs|llm|locale|prompts|runs|tenants|tests)/[\w./-]+(?:::\w+)?")
# The methods of `env` that read a variable.
READERS = ("str", "bool", "int", "float", "list", "db_url")


def options_of(command: BaseCommand) -> list[argparse.Action]:
    """Return the command's own options, without those that every Django command has."""
    common = {(action.dest, *action.option_strings) for action in BaseCommand().create_parser("", "")._actions}
    parser = command.create_parser("seo-gen", "command")
    return [action for action in parser._actions if (action.dest, *action.option_strings) not in common]


def load(name: str) -> BaseCommand:
    return load_command_class(COMMANDS[name], name)


def spoken(name: str) -> str:
    """Return the command as it is typed: "cluster receive-wal"."""
    return name.replace("_", " ", 1).replace("_", "-")


def test_every_command_has_a_page_with_every_section() -> None:
    pages = {name: (MANUAL / f"{name}.md").read_text() for name in COMMANDS}
    assert [name for name, page in pages.items() if not page.startswith(f"# {spoken(name)}\n")] == []
    assert [(name, section) for name, page in pages.items() for section in SECTIONS if section not in page] == []


def test_every_command_stands_in_the_index() -> None:
    index = (MANUAL / "README.md").read_text()
    assert [name for name in COMMANDS if f"({name}.md)" not in index] == []


def test_every_command_has_help() -> None:
    assert [name for name in COMMANDS if not load(name).help.strip().endswith(".")] == []


def test_every_commands_page_names_its_options_and_no_others() -> None:
    # The options of `migrate` are Django's.
    own = {name: _options(load(name)) for name in COMMANDS if name != "migrate"}
    described = {name: _described((MANUAL / f"{name}.md").read_text(), name) for name in own}
    assert {name: own[name] ^ described[name] for name in own if own[name] != described[name]} == {}


def _options(command: BaseCommand) -> set[str]:
    return {option for action in options_of(command) for option in action.option_strings}


def _described(page: str, name: str) -> set[str]:
    return set(re.findall(r"--[a-z][a-z-]*", _own_part(page, name)))


def _own_part(page: str, name: str) -> str:
    """Return the page's usage line and the first column of its tables, which contain only the command's own options."""
    usage = [line for line in page.splitlines() if line.startswith(f"seo-gen {spoken(name)} ")][:1]
    first_columns = [line.split("|")[1] for line in page.splitlines() if line.startswith("| `--")]
    return "\n".join([*usage, *first_columns])


def test_every_page_of_the_manual_is_about_a_command() -> None:
    assert {path.stem for path in MANUAL.glob("*.md")} - {"README", "errors"} == set(COMMANDS)


def test_links_lead_somewhere() -> None:
    assert [(_name(page), link) for page in PAGES for link in _links(page) if not _resolves(page, link)] == []


def test_no_page_names_a_folder_of_a_machine() -> None:
    assert [(_name(page), found) for page in PAGES for found in MACHINE_PATH.findall(page.read_text())] == []


def _name(page: Path) -> str:
    return str(page.relative_to(CHECKOUT))


def _links(page: Path) -> list[str]:
    prose = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    return [link for link in re.findall(r"\]\(([^)\s]+)\)", prose) if not link.startswith(("http://", "https://"))]


def _resolves(page: Path, link: str) -> bool:
    path, _hash, anchor = link.partition("#")
    target = (page.parent / path).resolve() if path else page
    return target.exists() and (not anchor or anchor in _anchors(target))


def _anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", page.read_text(), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_page_can_be_reached_from_the_readme() -> None:
    found, waiting = set(), [CHECKOUT / "README.md"]
    while waiting:
        page = waiting.pop()
        if page not in found and page.suffix == ".md":
            found.add(page)
            waiting += [(page.parent / link.partition("#")[0]).resolve() for link in _links(page)]
    assert set(PAGES) - found == set()


def test_pages_that_the_code_refers_to_exist() -> None:
    referred = [
        (_name(path), page) for path in _sources() for page in re.findall(r"\bdocs/[\w./-]+\.md", path.read_text())
    ]
    assert [(path, page) for path, page in referred if not (CHECKOUT / page).exists()] == []


def test_every_decision_is_numbered_and_listed() -> None:
    pages = sorted(path.name for path in (DOCS / "adr").glob("0*.md"))
    assert [int(name[:4]) for name in pages] == list(range(1, len(pages) + 1))
    index = (DOCS / "adr" / "README.md").read_text()
    assert [name for name in pages if f"({name})" not in index] == []


def test_every_variable_is_described() -> None:
    described = set(re.findall(r"`([A-Z][A-Z0-9_]+)`", (DOCS / "configuration.md").read_text()))
    assert {*_variables_read(), *KEY_VARIABLES.values(), *_port_variables()} - described == set()


def _variables_read() -> Iterator[str]:
    """Yield the names of the environment variables that our code reads."""
    for path in _sources():
        for node in ast.walk(ast.parse(path.read_text())):
            name = _looked_up(node)
            if name:
                yield name


def _looked_up(node: ast.AST) -> str | None:
    """Return "NAME" for `env.str("NAME")`, `os.environ.get("NAME")`, `os.environ["NAME"]` and the like; else None."""
    match node:
        case ast.Call(
            func=ast.Attribute(value=ast.Name(id="env"), attr=reader), args=[ast.Constant(value=str(name)), *_]
        ) if reader in READERS:
            return name
        case ast.Call(
            func=ast.Attribute(value=ast.Attribute(attr="environ"), attr="get" | "setdefault"),
            args=[ast.Constant(value=str(name)), *_],
        ):
            return name
        case ast.Subscript(value=ast.Attribute(attr="environ"), slice=ast.Constant(value=str(name))):
            return name
    return None


def _port_variables() -> Iterator[str]:
    return (service.port_variable for service in SERVICES if service.has_port)


def _sources() -> Iterator[Path]:
    return (path for app in OUR_APPS for path in (CHECKOUT / app).rglob("*.py"))


def test_every_direct_dependency_is_explained() -> None:
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
    required = [
        *project["dependencies"],
        *(name for group in project["optional-dependencies"].values() for name in group),
    ]
    for apart in ("requirements-weights.txt", "requirements-axe.txt"):
        required += [word for word in (CHECKOUT / apart).read_text().split() if "==" in word]
    names = {re.split(r"[<>=]", requirement)[0].strip() for requirement in required}
    explained = set(re.findall(r"^\| `([^`]+)` \|", (DOCS / "dependencies.md").read_text(), flags=re.MULTILINE))
    assert names == explained


def test_files_and_modules_that_pages_name_exist() -> None:
    named = [(_name(page), code) for page in PAGES for code in re.findall(r"`([^`\n]+)`", page.read_text())]
    files = [(page, code) for page, code in named if NAMED_FILE.fullmatch(code)]
    assert ("CONTRIBUTING.md", "tenants/operations.py") in files
    assert [(page, code) for page, code in files if not _is_there(code)] == []


def _is_there(code: str) -> bool:
    """Return whether the checkout has the file, such as "tenants/x.py", or the test, such as "tests/x.py::test_y"."""
    path, _colons, function = code.partition("::")
    file = CHECKOUT / path
    return file.exists() and (not function or f"def {function}(" in file.read_text())
