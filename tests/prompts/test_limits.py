"""No template, known or generated, exceeds the limits on time and memory."""

import os
import random
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import psutil
import pytest

from prompts import sandbox
from prompts.errors import InvalidPrompt, PromptError, PromptRenderError
from prompts.rendering import MAX_RENDERED_CHARS, names_used, render

# A template that escapes the limits hangs, so each test has a timeout far above the limits.
pytestmark = pytest.mark.timeout(60)

MIB = 1024 * 1024
TIME = "It takes too long."
MEMORY = "It needs more than 256 MiB of memory."
DEPTH = "It nests or recurses too deeply."


def outcome(content: str) -> str:
    """Compile and render; return the text or the error."""
    try:
        names_used(content)
        return render(content, (), {}, prompt="7 (draft v2)")
    except PromptError as error:
        return str(error)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}", TIME),
        ("{% for a in range(99) %}" * 19 + "{% endfor %}" * 19, TIME),
        ("{{ 2**(10**9) }}", TIME),
        ("{{ 'a'*10**9 }}", MEMORY),
        ("{{ 'x'.ljust(10**9)|length }}", MEMORY),
        ("{{ '%1000000000d'|format(1) }}", MEMORY),
        ("{{ '{:1000000000}'.format(1) }}", MEMORY),
        ("{{ (['a']*100000000)|length }}", MEMORY),
        ("{{ 'a'|center(10**9) }}", MEMORY),
        ("{{ ('a\n'*10**5)|indent(10**5) }}", MEMORY),
        ("{{ range(9)|batch(10**9, 'x')|list }}", MEMORY),
        ("{{ (('a'*10**7)|tojson)*100 }}", MEMORY),
        ("{{ ('a'*10**6)|replace('a', 'a'*10**6) }}", MEMORY),
        ("{% set s = 'a'*99 %}" + "{% set s = s ~ s %}" * 40 + "{{ s }}", MEMORY),
        ("{% macro f(x) %}{{ f(x ~ x) }}{% endmacro %}{{ f('a'*99) }}", MEMORY),
        ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", DEPTH),
        ("{% for x in [[1]] recursive %}{{ loop([[1]]) }}{% endfor %}", DEPTH),
        (
            "{% for i in range(99999) %}" + "x" * 99 + "{% endfor %}",
            "The rendered text is longer than 4194304 characters.",
        ),
    ],
)
def test_a_template_that_exceeds_a_limit_is_refused_with_the_limit(content: str, reason: str) -> None:
    with pytest.raises(PromptRenderError) as refusal:
        render(content, (), {}, prompt="7 (draft v2)")
    assert str(refusal.value) == f"Prompt 7 (draft v2) cannot be rendered. {reason}"


@pytest.mark.parametrize(
    ("content", "least_s"),
    [
        ("{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}", 0.2),
        ("{{ 'a'*10**9 }}", 0),
        ("{{ 2**(10**9) }}", 0.2),
    ],
)
def test_a_template_is_refused_in_about_a_second(content: str, least_s: float) -> None:
    """Measured in CPU time, which other work does not affect; of the wall clock, only the limit is checked."""
    outcome("warm")
    before = used_by_sandboxes_s()
    with pytest.raises(PromptRenderError):
        render(content, (), {}, prompt="7 (draft v2)")
    assert least_s <= used_by_sandboxes_s() - before < 2
    assert sandbox.LIMITS.wall_s < 2


def used_by_sandboxes_s() -> float:
    """Return the CPU time used by the processes that rendered."""
    times = [psutil.Process(pid).cpu_times() for pid in sandbox.pids()]
    return float(sum(time.children_user + time.children_system for time in times))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("{{ 2**(10**9) }}", f"The template cannot be compiled. {TIME}"),
        ("{{ " + "(" * 20_000 + "1" + ")" * 20_000 + " }}", f"The template cannot be compiled. {DEPTH}"),
        ("{{ " + "[" * 90 + "]" * 90 + " }}", f"The template cannot be compiled. {DEPTH}"),
        ("{{ " + "-" * 60_000 + "1 }}", f"The template cannot be compiled. {DEPTH}"),
        ("{{ " + "not " * 15_000 + "1 }}", f"The template cannot be compiled. {DEPTH}"),
        # Short enough: Jinja2 reads these to the end before it recurses, and more of them exceed the time instead.
        ("{{ 1" + "+1" * 2_000 + " }}", f"The template cannot be compiled. {DEPTH}"),
        ("{{ a" + "|e" * 2_000 + " }}", f"The template cannot be compiled. {DEPTH}"),
        (
            "{% for a in [1] %}" * 21 + "{% endfor %}" * 21,
            "The template cannot be compiled: too many statically nested blocks.",
        ),
    ],
)
def test_a_template_that_cannot_be_compiled_is_refused_when_it_is_saved(content: str, reason: str) -> None:
    with pytest.raises(InvalidPrompt) as refusal:
        names_used(content)
    assert str(refusal.value) == reason


@pytest.mark.parametrize("content", ["{{ 1" + "+1" * 30_000 + " }}", "{{ a" + "|e" * 30_000 + " }}"])
def test_a_longer_chain_is_refused_for_the_limit_that_it_reaches_first(content: str) -> None:
    with pytest.raises(InvalidPrompt) as refusal:
        names_used(content)
    assert str(refusal.value) in {f"The template cannot be compiled. {reason}" for reason in (TIME, DEPTH)}


@pytest.mark.parametrize("character", ["a", "日", "😀"])
def test_the_longest_allowed_text_fits_into_the_limits(character: str) -> None:
    assert len(outcome(f"{{{{ '{character}' * {MAX_RENDERED_CHARS} }}}}")) == MAX_RENDERED_CHARS


# 500 of them: `make chaos`.
TEMPLATES = 20 * int(os.environ.get("CHAOS_ROUNDS", "2"))


@pytest.mark.chaos
@pytest.mark.timeout(600)
def test_nested_templates_are_rendered_or_refused_with_bounded_memory() -> None:
    chance = random.Random(15)
    templates = [statement(chance, depth=4) for _ in range(TEMPLATES)]
    outcome("warm")
    own = psutil.Process()
    before = own.memory_info().rss
    with largest_sandbox() as largest, ThreadPoolExecutor(2) as threads:
        # Keep only the ends: the test measures the memory that rendering uses, not its own.
        outcomes = list(threads.map(lambda content: outcome(content)[-200:], templates))
    refused = {reason: sum(reason in text for text in outcomes) for reason in (TIME, MEMORY, DEPTH, "longer than")}
    # The generated templates reach each limit, and some of them succeed.
    assert all(count >= max(1, TEMPLATES // 125) for count in refused.values()), refused
    assert sum("cannot be" not in text for text in outcomes) > TEMPLATES * 2 // 25
    assert own.memory_info().rss - before < 200 * MIB
    assert 0 < largest[0] < sandbox.LIMITS.memory_bytes


@contextmanager
def largest_sandbox() -> Iterator[list[int]]:
    """Watch the memory of the sandbox processes during the block; yield a list with the highest value, in bytes."""
    largest, over = [0], threading.Event()

    def watch() -> None:
        while not over.wait(0.01):
            for child in psutil.Process().children(recursive=True):
                try:
                    if "sandbox_process" in " ".join(child.cmdline()):
                        largest[0] = max(largest[0], child.memory_info().rss)
                except psutil.NoSuchProcess:
                    pass

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield largest
    finally:
        over.set()
        thread.join()


NUMBERS = ("0", "1", "3", "17", "300", "99999", "10**6", "10**9", "2**31")
TEXTS = ("'a'", "'日本'", "'%99999d'", "'<b>'", "'a b\n'", "'http://a.example '")
TEXT_FILTERS = (
    *(
        "center(10**9)",
        "indent(99999)",
        "tojson",
        "upper",
        "replace('a', 'aaaaaaaa')",
        "wordwrap(3)",
        "urlize",
        "title",
    ),
    *("striptags", "pprint", "truncate(9)", "e", "reverse", "trim", "capitalize", "urlencode", "format(7)"),
)
LIST_FILTERS = (
    "join(',')",
    "list|tojson",
    "batch(99, 0)|list|string",
    "slice(9)|list|string",
    "sort|string",
    "unique|join",
)


def statement(chance: random.Random, *, depth: int) -> str:
    """Generate a random template, nested up to `depth` levels."""
    kind = chance.randrange(8) if depth else 0
    inner = statement(chance, depth=depth - 1) if depth else ""
    match kind:
        case 0 | 1:
            return f"{{{{ {text(chance, depth)} }}}}{inner}"
        case 2 | 3:
            return f"{{% for x{depth} in range({number(chance, depth - 2)}) %}}{inner}{{% endfor %}}"
        case 4:
            return (
                f"{{% set v = {text(chance, depth)} %}}{inner}{'{% set v = v ~ v %}' * chance.randrange(30)}{{{{ v }}}}"
            )
        case 5:
            call = f"{{{{ m{depth}(x + 1) }}}}"
            return f"{{% macro m{depth}(x) %}}{inner}{call}{{% endmacro %}}{{{{ m{depth}(1) }}}}"
        case 6:
            return f"{{% if {number(chance, depth)} > 9 %}}{inner}{{% else %}}{inner}{{% endif %}}" * 2
        case _:
            return f"{{% filter {chance.choice(('upper', 'indent(99)', 'title', 'e'))} %}}{inner}{{% endfilter %}}"


def number(chance: random.Random, depth: int) -> str:
    if depth <= 0:
        return chance.choice(NUMBERS)
    if chance.randrange(4) == 0:
        return f"({text(chance, depth - 1)})|length"
    left, right = number(chance, depth - chance.randint(1, 3)), number(chance, depth - 2)
    return f"({left}) {chance.choice(('+', '*', '**', '%', '//', '-'))} ({right})"


def text(chance: random.Random, depth: int) -> str:
    if depth <= 0:
        return chance.choice(TEXTS)
    match chance.randrange(5):
        case 0:
            return f"({text(chance, depth - 1)})|{chance.choice(TEXT_FILTERS)}"
        case 1:
            return f"range({number(chance, depth - 2)})|{chance.choice(LIST_FILTERS)}"
        case 2:
            return f"([{text(chance, depth - 2)}] * {number(chance, depth - 3)})|{chance.choice(LIST_FILTERS)}"
        case 3:
            return f"({text(chance, depth - 1)}) * ({number(chance, depth - 3)})"
        case _:
            return f"({text(chance, depth - 1)}) ~ ({number(chance, depth - 2)})"
