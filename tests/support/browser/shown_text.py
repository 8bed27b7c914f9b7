"""What a page says, by kind and in order, read from its HTML without a browser."""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser

# What a person wrote, or what has the same name in both languages, stands in one of these.
CODE = {"code", "pre", "textarea", "bdi"}
# Line breaks of its own.
VERBATIM = {"pre", "textarea"}
# What people type or open stands in one of these.
ASIDE = {"textarea", "details"}
SILENT = {"script", "style", "template"}
# What continues the line of text that it stands in.
INLINE = {"a", "abbr", "b", "bdi", "code", "em", "i", "small", "span", "strong", "time"}
VOID = {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr"}
SAID = ("placeholder", "aria-label", "title", "alt")
ICONS = "material-symbols-outlined"


@dataclass
class Shown:
    """The texts of a page, each on one line and without surrounding whitespace."""

    plain: list[str] = field(default_factory=list)
    code: list[str] = field(default_factory=list)
    headings: list[str] = field(default_factory=list)
    # Whole lines and paragraphs, with what stands in them.
    flows: list[str] = field(default_factory=list)
    # What a page shows without being asked.
    open: list[str] = field(default_factory=list)


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[tuple[str, bool]] = []
        self.shown = Shown()
        self._flow = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self._part(tag)
        for name in SAID:
            self._add(given.get(name) or "")
        if tag not in VOID:
            self.open.append((tag, tag in SILENT or ICONS in (given.get("class") or "")))

    def handle_endtag(self, tag: str) -> None:
        self._part(tag)
        while self.open and any(name == tag for name, _silent in self.open):
            name, _silent = self.open.pop()
            if name == tag:
                return

    def handle_data(self, data: str) -> None:
        if not any(silent for _name, silent in self.open):
            if not any(name in VERBATIM for name, _silent in self.open):
                self._flow += data
            self._add(data)

    def _part(self, tag: str) -> None:
        if tag not in INLINE:
            self.shown.flows += [" ".join(self._flow.split())] if self._flow.strip() else []
            self._flow = ""

    def _add(self, data: str) -> None:
        text = " ".join(data.split())
        if not text:
            return
        tags = {name for name, _silent in self.open}
        (self.shown.code if tags & CODE else self.shown.plain).append(text)
        if not tags & ASIDE:
            self.shown.open.append(text)
        if tags & {"h1", "title"}:
            self.shown.headings.append(text)


def shown_text(html: str) -> Shown:
    reader = _Reader()
    reader.feed(html)
    return reader.shown
