"""The program that compiles and renders templates. It uses only Jinja2 and the standard library.

`prompts.sandbox` starts it by path, with an empty environment and pipes as stdin and stdout. It reads requests from
stdin. For each request it forks a child, which answers on stdout; when the child has ended, the program reports how. A
frame is a length (8 bytes, big-endian) and that many bytes of JSON.

    request   {"action": "names" | "render", "content": …, "values": {…}, "max_chars": …, "limits": {…}}
    answer    {"names": […], "references": bool} | {"text": …} | {"problem": …, "reason": …, "line": …}
              reason and line only if problem is "syntax" or "failure"; missing if the child was killed or failed
    end       {"signal": 0 or the number of the signal that killed the child, "cpu_s": CPU time it used}

The kernel enforces the limits, which are set before the template is parsed. Each request gets a new child, so that one
customer's template leaves nothing behind for the next.
"""

import json
import os
import resource
import signal
import sys
from collections.abc import Iterable, Mapping
from typing import Any

import jinja2.debug  # Jinja2 imports it when a template fails, which is too late: the child cannot open files
import jinja2.sandbox
from jinja2 import StrictUndefined, TemplateError, TemplateSyntaxError, meta

HEADER_BYTES = 8
STDIN, STDOUT = 0, 1
Answer = dict[str, Any]


class TooLong(Exception):
    """The rendered text is longer than allowed."""


def environment() -> jinja2.sandbox.ImmutableSandboxedEnvironment:
    """Return Jinja2's sandboxed environment, with `range` as its only global."""
    made = jinja2.sandbox.ImmutableSandboxedEnvironment(undefined=StrictUndefined, autoescape=False, trim_blocks=True)
    made.globals = {"range": made.globals["range"]}
    made.lstrip_blocks = True
    return made


JINJA = environment()


def main() -> None:
    """Serve requests until stdin ends: the kernel closes it however the parent process ends."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        # Meant for the worker, which may still need this process to finish its current work.
        signal.signal(number, signal.SIG_IGN)
    _warm_up()
    while (frame := _read_frame()) is not None:
        child = os.fork()
        if not child:
            _answer_and_exit(frame)
        _pid, status, used = os.wait4(child, 0)
        killed_by = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
        _write_frame(json.dumps({"signal": killed_by, "cpu_s": used.ru_utime + used.ru_stime}).encode())


def _warm_up() -> None:
    """Load what Jinja2 and Python load on first use while files can still be opened; each child inherits that."""
    for filter_name in JINJA.filters:
        for content in (f"{{{{ 'a\\n b' | {filter_name} }}}}", f"{{{{ [1, 2] | {filter_name}(1) }}}}"):
            answer({"action": "render", "content": content, "values": {}, "max_chars": 99})
    for content in (
        "{% for a in range(2) %}{{ 'a' ~ a }}{% endfor %}",
        "{{ missing }}",
        "{% if %}",
        "{{ a.__class__ }}",
    ):
        answer({"action": "names", "content": content})
        answer({"action": "render", "content": content, "values": {"a": "A"}, "max_chars": 99})


def _answer_and_exit(frame: bytes) -> None:
    """In the child: answer within the limits, then exit without Python's clean-up."""
    status = 1
    try:
        os.close(STDIN)
        request = json.loads(frame)
        _limit(request["limits"])
        _write_frame(_encoded(request))
        status = 0
    finally:
        os._exit(status)


def _encoded(request: Mapping[str, Any]) -> bytes:
    try:
        return json.dumps(answer(request), ensure_ascii=False).encode(errors="surrogatepass")
    except MemoryError:
        return b'{"problem": "memory"}'


def _limit(limits: Mapping[str, Any]) -> None:
    """Make the kernel limit memory, CPU time (SIGPROF) and wall-clock time (SIGALRM); forbid files and processes."""
    for kind in (resource.RLIMIT_CORE, resource.RLIMIT_FSIZE, resource.RLIMIT_NOFILE, resource.RLIMIT_NPROC):
        resource.setrlimit(kind, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (limits["memory_bytes"], limits["memory_bytes"]))
    # Whole seconds only, so ITIMER_PROF sets the exact limit.
    resource.setrlimit(resource.RLIMIT_CPU, (int(limits["cpu_s"]) + 1, int(limits["cpu_s"]) + 1))
    signal.setitimer(signal.ITIMER_PROF, limits["cpu_s"])
    signal.setitimer(signal.ITIMER_REAL, limits["wall_s"])


def answer(request: Mapping[str, Any]) -> Answer:
    """Handle a request. If the template fails, the answer says so; only `MemoryError` is raised."""
    try:
        if request["action"] == "names":
            return _names(request["content"])
        return {"text": _rendered(request["content"], request["values"], request["max_chars"])}
    except MemoryError:
        raise
    except Exception as error:  # the template divides by zero, indexes past an end, …: its author's mistake
        return _problem(error)


def _problem(error: Exception) -> Answer:
    match error:
        case TooLong():
            return {"problem": "length"}
        case RecursionError():
            return {"problem": "depth"}
        case TemplateSyntaxError():
            return {"problem": "syntax", "reason": _reason(error), "line": error.lineno}
        case TemplateError():
            return {"problem": "failure", "reason": _reason(error), "line": None}
        case SyntaxError():
            # Jinja2 accepted the template, but Python rejects the code that Jinja2 made of it: twenty nested loops, …
            return {"problem": "syntax", "reason": error.msg, "line": None}
    return {"problem": "failure", "reason": type(error).__name__, "line": None}


def _reason(error: TemplateError) -> str:
    return (error.message or type(error).__name__).rstrip(".")


def _names(content: str) -> Answer:
    """Return the names that a template expects values for, and whether it refers to other templates."""
    parsed = JINJA.parse(content)
    names = meta.find_undeclared_variables(parsed) - JINJA.globals.keys()
    references = any(True for _template in meta.find_referenced_templates(parsed))
    # Find compile errors when the template is saved, not when it is rendered.
    JINJA.compile(parsed)
    return {"names": sorted(names), "references": references}


def _rendered(content: str, values: Mapping[str, object], max_chars: int) -> str:
    return _bounded(JINJA.from_string(content).generate(values), max_chars)


def _bounded(pieces: Iterable[str], max_chars: int) -> str:
    kept, length = [], 0
    for piece in pieces:
        length += len(piece)
        if length > max_chars:
            raise TooLong
        kept.append(piece)
    return "".join(kept)


def _read_frame() -> bytes | None:
    header = _read(HEADER_BYTES)
    return _read(int.from_bytes(header)) if header else None


def _read(size: int) -> bytes:
    content = sys.stdin.buffer.read(size)
    return content if len(content) == size else b""


def _write_frame(content: bytes) -> None:
    remaining = memoryview(len(content).to_bytes(HEADER_BYTES) + content)
    while remaining:
        remaining = remaining[os.write(STDOUT, remaining) :]


if __name__ == "__main__":
    main()
