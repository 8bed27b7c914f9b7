"""The manual's page of error codes, from the code itself: `python -m config.error_reference > docs/manual/errors.md`."""

from __future__ import annotations

import ast
import re
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from config.stack.paths import CHECKOUT

APPS = ("audit", "config", "llm", "prompts", "runs", "tenants")
# Where an error begins: every class below these two is one.
ROOTS = {"SeoGenError", "Refusal"}
PAGE = """# Errors

<!-- Made by `make errors`. -->

Every refusal has a code, a sentence and mostly a hint. The code says what kind of refusal it is, and stays the same when the
sentence is worded anew: scripts branch on it. With `--json` a command that refuses prints one document on stdout, nothing
else there, and exits 1:

```json
{
  "error": {
    "code": "tenant_not_found",
    "message": "There is no tenant 'nobody'.",
    "hint": "`seo-gen tenant list` shows those that exist."
  }
}
```

Without `--json` sentence and hint go to stderr. A command that did its work and found something wrong, such as
`tenant status` or `backup verify`, prints the document that its page describes, says what is wrong on stderr, and exits 1 as
well: a document without `error` is its own. Wrong usage exits 2 with the usage on stderr, and has no code.

What is in braces is put in. A sentence may follow another that says for whom, such as `Tenant … was not restored`; the code
is that of the reason then.

| code | sentence | hint |
|---|---|---|
"""


@dataclass
class Row:
    """What is said with one code."""

    sentences: dict[str, None] = field(default_factory=dict)
    hints: dict[str, None] = field(default_factory=dict)


@dataclass(frozen=True)
class Site:
    """One place that makes an error; `code` is "" where it has none, "*" where it hands on another error's."""

    where: str
    error: str
    code: str
    sentences: tuple[str, ...]
    hints: tuple[str, ...]


@dataclass(frozen=True)
class ErrorClass:
    name: str
    bases: tuple[str, ...]
    code: str
    sentences: tuple[str, ...]
    hints: tuple[str, ...]


def trees() -> dict[str, ast.Module]:
    """Return {path: syntax tree} of the product's modules."""
    paths = [path for app in APPS for path in sorted((CHECKOUT / app).rglob("*.py"))]
    return {str(path.relative_to(CHECKOUT)): ast.parse(path.read_text()) for path in paths}


def error_classes(modules: Mapping[str, ast.Module]) -> dict[str, ErrorClass]:
    """Return every class of an error that a person is told, by its name."""
    every = {}
    for module in modules.values():
        for node in ast.walk(module):
            if isinstance(node, ast.ClassDef):
                every[node.name] = _class(node)
    found = {name: every[name] for name in ROOTS}
    while more := {
        name: one for name, one in every.items() if name not in found and any(base in found for base in one.bases)
    }:
        found |= more
    return found


def code_of(name: str, classes: Mapping[str, ErrorClass]) -> str:
    """Return the code of a class, its own or the one that it inherits; "" where its raise sites have to say it."""
    one = classes.get(name)
    if one is None:
        return ""
    return one.code or next(filter(None, (code_of(base, classes) for base in one.bases)), "")


def sites(modules: Mapping[str, ast.Module], classes: Mapping[str, ErrorClass]) -> Iterator[Site]:
    """Yield every place that makes an error of one of the classes, with its own code or else its class's."""
    for path, module in modules.items():
        for scope, call in _calls(module):
            name = _name(call.func)
            if name not in classes:
                continue
            keywords = {keyword.arg: keyword.value for keyword in call.keywords if keyword.arg}
            texts = [text for argument in call.args for text in _texts(argument, scope)]
            codes = _codes(keywords["code"], module) if "code" in keywords else [code_of(name, classes)]
            hints = tuple(_texts(keywords["hint"], scope)) if "hint" in keywords else ()
            for code in codes:
                yield Site(f"{path}:{call.lineno}", name, code, tuple(texts), hints)


def rows() -> dict[str, Row]:
    """Return what is said with each code, by code."""
    modules = trees()
    classes = error_classes(modules)
    found: dict[str, Row] = defaultdict(Row)
    for one in [*classes.values(), *sites(modules, classes)]:
        if one.code and one.code != "*":
            found[one.code].sentences.update(dict.fromkeys(one.sentences))
            found[one.code].hints.update(dict.fromkeys(one.hints))
    return dict(sorted(found.items()))


def page() -> str:
    lines = [
        f"| `{code}` | {'<br>'.join(map(_cell, row.sentences))} | {'<br>'.join(map(_cell, row.hints))} |"
        for code, row in rows().items()
    ]
    return PAGE + "\n".join(lines) + "\n"


def _class(node: ast.ClassDef) -> ErrorClass:
    code, sentences, hints = "", [], []
    for part in node.body:
        if isinstance(part, ast.Assign) and _name(part.targets[0]) == "code" and isinstance(part.value, ast.Constant):
            code = str(part.value.value)
        if isinstance(part, ast.FunctionDef) and part.name == "__init__":
            for call in (one for one in ast.walk(part) if isinstance(one, ast.Call)):
                if isinstance(call.func, ast.Attribute) and call.func.attr == "__init__":
                    sentences += [text for argument in call.args for text in _texts(argument, part)]
                    hints += [
                        text for keyword in call.keywords if keyword.arg == "hint" for text in _texts(keyword.value, part)
                    ]
    return ErrorClass(node.name, tuple(map(_name, node.bases)), code, tuple(sentences), tuple(hints))


def _calls(node: ast.AST, scope: ast.AST | None = None) -> Iterator[tuple[ast.AST, ast.Call]]:
    """Yield every call with the function around it."""
    scope = node if scope is None or isinstance(node, ast.FunctionDef) else scope
    if isinstance(node, ast.Call):
        yield scope, node
    for child in ast.iter_child_nodes(node):
        yield from _calls(child, scope)


def _name(node: ast.AST) -> str:
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""


def _codes(node: ast.expr, module: ast.Module) -> list[str]:
    """Return the codes that an argument can be: a text, or a dictionary's values; "*" for another error's."""
    if isinstance(node, ast.Constant):
        return [str(node.value)]
    if isinstance(node, ast.Subscript):
        found = [value for name, value in _assignments(module) if name == _name(node.value)]
        return [str(text.value) for one in found for text in ast.walk(one) if isinstance(text, ast.Constant)][1::2]
    return ["*"]


def _texts(node: ast.expr, scope: ast.AST, seen: frozenset[str] = frozenset()) -> Iterator[str]:
    """Yield the sentences that an expression can be, however they are chosen; what they are filled with is left out."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mod):
        yield from _texts(node.left, scope, seen)
    elif isinstance(node, ast.Call) and _name(node.func) in ("_", "gettext"):
        yield from _texts(node.args[0], scope, seen)
    elif isinstance(node, ast.IfExp):
        yield from _texts(node.body, scope, seen)
        yield from _texts(node.orelse, scope, seen)
    elif isinstance(node, ast.BoolOp):
        for value in node.values:
            yield from _texts(value, scope, seen)
    elif isinstance(node, ast.Name) and node.id not in seen:
        for name, value in _assignments(scope):
            if name == node.id:
                yield from _texts(value, scope, seen | {node.id})
    elif isinstance(node, ast.JoinedStr):
        yield "".join(
            str(part.value) if isinstance(part, ast.Constant) else f"{{{_filled(part)}}}" for part in node.values
        )
    elif isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value:
        yield node.value


def _assignments(scope: ast.AST) -> Iterator[tuple[str, ast.expr]]:
    for node in ast.walk(scope):
        if isinstance(node, ast.Assign):
            for target in node.targets:
                yield _name(target), node.value


def _filled(part: ast.expr) -> str:
    names = [_name(node) for node in ast.walk(part) if isinstance(node, ast.Name | ast.Attribute)]
    return next((name for name in names if name and name != "self"), "…")


def _cell(text: str) -> str:
    return re.sub(r"%\((\w+)\)[#0-9.]*[a-z]", r"{\1}", text).replace("%%", "%").replace("|", r"\|").replace("<", "&lt;")


if __name__ == "__main__":
    if sys.argv[1:]:
        Path(sys.argv[1]).write_text(page())
    else:
        sys.stdout.write(page())
