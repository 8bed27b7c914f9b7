"""The manual's page of error codes, made from the code itself; `make errors` writes it."""

from __future__ import annotations

import ast
import re
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from config.stack.paths import CHECKOUT

APPS = ("audit", "config", "llm", "prompts", "runs", "tenants")
# Every class below these two is an error that a person is told.
ROOTS = {"SeoGenError", "Refusal"}
# It hands on the code of whatever a command refused with.
CARRIER = "Refused"
TRANSLATE = ("_", "gettext")
# The code of an error that hands on another's.
HANDED_ON = "*"
# How many names and functions are followed to find a sentence.
DEPTH = 4
# What a command says of its own findings.
FOUND = "What `seo-gen %s` found, one line each."
PAGE = """# Errors

<!-- Made by `make errors`. -->

Every refusal has a code, a sentence and mostly a hint. The code says what kind of refusal it is and stays the same when
the sentence is worded anew: scripts branch on it. With `--json` a command that refuses prints one document on stdout,
nothing else there, and exits 1:

```json
{
  "error": {
    "code": "tenant_not_found",
    "message": "There is no tenant 'nobody'.",
    "hint": "`seo-gen tenant list` shows all tenants."
  }
}
```

`hint` may be empty. Without `--json` sentence and hint go to stderr. A command that did its work and found something
wrong, such as `tenant status` or `backup verify`, prints the document that its own page describes, says on stderr what
is wrong, and exits 1 as well. Wrong usage exits 2 with the usage on stderr, and has no code.

Braces stand for what is put in. A refused restore, import or deletion says so first, and then the sentence of its
cause; the code is the cause's.

| code | sentence | hint |
|---|---|---|
"""


@dataclass
class Row:
    """What is said with one code, each text once."""

    sentences: dict[str, None] = field(default_factory=dict)
    hints: dict[str, None] = field(default_factory=dict)


@dataclass(frozen=True)
class ErrorClass:
    name: str
    bases: tuple[str, ...]
    code: str
    sentences: tuple[str, ...]
    hints: tuple[str, ...]
    # Of its docstring, for what has no sentence of its own.
    summary: str


@dataclass(frozen=True)
class Site:
    """One place that makes an error; `code` is "" where neither it nor the class has one."""

    where: str
    error: str
    code: str
    sentences: tuple[str, ...]
    hints: tuple[str, ...]


def modules_read() -> dict[str, ast.Module]:
    """Return {path: syntax tree} of the product's modules."""
    paths = [path for app in APPS for path in sorted((CHECKOUT / app).rglob("*.py"))]
    return {str(path.relative_to(CHECKOUT)): ast.parse(path.read_text()) for path in paths}


def error_classes(modules: Mapping[str, ast.Module]) -> dict[str, ErrorClass]:
    """Return every class of an error that a person is told, by its name."""
    nodes = [node for module in modules.values() for node in ast.walk(module) if isinstance(node, ast.ClassDef)]
    every = {node.name: _class(node) for node in nodes}
    found = {name: every[name] for name in ROOTS}
    while more := {
        name: one for name, one in every.items() if name not in found and any(base in found for base in one.bases)
    }:
        found |= more
    del found[CARRIER]
    return found


def code_of(name: str, classes: Mapping[str, ErrorClass]) -> str:
    """Return the code of a class, its own or the one that it inherits; "" where its raise sites have to say it."""
    if name not in classes:
        return ""
    one = classes[name]
    return one.code or next(filter(None, (code_of(base, classes) for base in one.bases)), "")


def sites(modules: Mapping[str, ast.Module], classes: Mapping[str, ErrorClass]) -> Iterator[Site]:
    """Yield every place that makes an error of one of the classes, once for each code that it can have."""
    for path, module in modules.items():
        for scope, call in _calls(module, module):
            name = _name(call.func)
            if name not in classes:
                continue
            keywords = {keyword.arg: keyword.value for keyword in call.keywords if keyword.arg}
            # A class with sentences of its own takes ids and operations beside translated reasons.
            translated = bool(classes[name].sentences)
            texts = [text for argument in call.args for text in _texts(argument, scope, module, translated=translated)]
            if name == "Refusal" and not texts:
                texts = [FOUND % _spoken(path) if "commands" in path else f"{{{_name(call.args[0])}}}"]
            hints = tuple(_texts(keywords["hint"], scope, module)) if "hint" in keywords else ()
            for code in _codes(keywords["code"], module) if "code" in keywords else [code_of(name, classes)]:
                yield Site(f"{path}:{call.lineno}", name, code, tuple(texts), hints)


def rows() -> dict[str, Row]:
    """Return what is said with each code, by code."""
    modules = modules_read()
    classes = error_classes(modules)
    found: dict[str, Row] = defaultdict(Row)

    def say(code: str, sentences: Sequence[str], hints: Sequence[str]) -> None:
        if code and code != HANDED_ON:
            found[code].sentences.update(dict.fromkeys(sentences))
            found[code].hints.update(dict.fromkeys(hints))

    made = list(sites(modules, classes))
    for one in classes.values():
        say(one.code, one.sentences, one.hints)
    for site in made:
        say(site.code, site.sentences, site.hints)
    # Some sentences are another program's.
    whose = {one.code: one.name for one in classes.values()} | {site.code: site.error for site in made}
    for code, row in found.items():
        if not row.sentences:
            say(code, [classes[whose[code]].summary], [])
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
        if not isinstance(part, ast.FunctionDef) or part.name != "__init__":
            continue
        for _scope, call in _calls(part, part):
            if _name(call.func) == "__init__":
                sentences += [text for argument in call.args for text in _texts(argument, part, part)]
                values = [keyword.value for keyword in call.keywords if keyword.arg == "hint"]
                hints += [text for value in values for text in _texts(value, part, part)]
    summary = (ast.get_docstring(node) or "").partition("\n")[0]
    return ErrorClass(node.name, tuple(map(_name, node.bases)), code, tuple(sentences), tuple(hints), summary)


def _calls(node: ast.AST, scope: ast.AST) -> Iterator[tuple[ast.AST, ast.Call]]:
    """Yield every call with the function around it."""
    if isinstance(node, ast.Call):
        yield scope, node
    for child in ast.iter_child_nodes(node):
        yield from _calls(child, child if isinstance(child, ast.FunctionDef) else scope)


def _codes(node: ast.expr, module: ast.Module) -> list[str]:
    """Return the codes that an argument can be: a text, or one of a dictionary's values."""
    if isinstance(node, ast.Constant):
        return [str(node.value)]
    if isinstance(node, ast.Subscript):
        tables = [value for name, value in _assignments(module) if name == _name(node.value)]
        values = [value for table in tables if isinstance(table, ast.Dict) for value in table.values]
        return [str(value.value) for value in values if isinstance(value, ast.Constant)]
    return [HANDED_ON]


def _texts(
    node: ast.expr, scope: ast.AST, module: ast.AST, *, translated: bool = False, depth: int = DEPTH
) -> Iterator[str]:
    """Yield the sentences that an expression can be, however they are chosen; what they are filled with is left out.

    With `translated` only those that are.
    """
    parts: list[ast.expr] = []
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mod):
        parts = [node.left]
    elif isinstance(node, ast.IfExp):
        parts = [node.body, node.orelse]
    elif isinstance(node, ast.BoolOp):
        parts = node.values
    elif isinstance(node, ast.Call) and _name(node.func) in TRANSLATE:
        parts, translated = [node.args[0]], False
    elif isinstance(node, ast.Call) and _name(node.func) == "because":
        parts = node.args[:1]
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and depth:
        parts, depth = list(_returned(node.func.id, module)), depth - 1
    elif isinstance(node, ast.Name) and depth:
        parts, depth = [value for name, value in _assignments(scope) if name == node.id], depth - 1
    elif isinstance(node, ast.JoinedStr) and not translated:
        yield "".join(map(_filled, node.values))
    elif isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value and not translated:
        yield node.value
    for part in parts:
        yield from _texts(part, scope, module, translated=translated, depth=depth)


def _returned(function: str, module: ast.AST) -> Iterator[ast.expr]:
    for node in ast.walk(module):
        if isinstance(node, ast.FunctionDef) and node.name == function:
            yield from (one.value for one in ast.walk(node) if isinstance(one, ast.Return) and one.value)


def _assignments(scope: ast.AST) -> Iterator[tuple[str, ast.expr]]:
    for node in ast.walk(scope):
        if isinstance(node, ast.Assign):
            yield from ((_name(target), node.value) for target in node.targets)


def _filled(part: ast.expr) -> str:
    """Return a part of an f-string: its text, or in braces what is put in."""
    if isinstance(part, ast.Constant):
        return str(part.value)
    names = [_name(node) for node in ast.walk(part) if isinstance(node, ast.Name | ast.Attribute)]
    name = next((name for name in names if name and name != "self"), "…")
    return f"{{{name}}}"


def _name(node: ast.AST) -> str:
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""


def _spoken(path: str) -> str:
    """Return how the command in the file is typed: "audit verify"."""
    return Path(path).stem.replace("_", " ", 1).replace("_", "-")


def _cell(text: str) -> str:
    filled = re.sub(r"%\((\w+)\)[#0-9.]*[a-z]", r"{\1}", text).replace("%%", "%")
    return filled.replace("|", r"\|").replace("<", "&lt;")


if __name__ == "__main__":
    sys.stdout.write(page())
