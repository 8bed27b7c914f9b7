"""Write a step's output to the storage.

Files are written outside any transaction, so that a slow disk keeps no rows locked. Only files that belong to no
attempt at the step (`StoredOutput.foreign`) are replaced while the step is locked.

The first `output.json` that answers a step's question is final, whichever worker wrote it, and the article is derived
from it. So a worker that has lost its claim can only create a file where there is none, with an answer to the same
question, which the next attempt adopts; it never changes or replaces one (ADR 0005).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from runs.output import article_name, decode, encode, same_question
from runs.storage import artifact_path, output_path, stored, write, write_once
from runs.types import Claim, StepOutput, StoredFile


@dataclass(frozen=True)
class StoredOutput:
    """The output that is kept for a step, and its files."""

    output: StepOutput
    json_file: StoredFile
    article: StoredFile
    # The new content of files that belong to no attempt at this version of the step: they were left over from before a
    # restore or from an older version, or damaged by the disk.
    foreign: dict[str, bytes]


def store_output(claim: Claim, output: StepOutput) -> StoredOutput:
    """Write `output.json` and the article unless they exist; return the output that is kept, with its files.

    Raises `StorageError`.
    """
    path, content = output_path(claim.run_id, claim.step), encode(output)
    present = write_once(path, content)
    kept = decode(present)
    foreign: dict[str, bytes] = {}
    if kept is None or not same_question(kept, output):
        foreign[path] = content
        kept, present = output, content
    article, text = _article_path(claim), kept.text.encode()
    if foreign or write_once(article, text) != text:
        foreign[article] = text
    return StoredOutput(kept, stored(path, present), stored(article, text), foreign)


def replace_foreign_files(output: StoredOutput, *, confirm: Callable[[], object]) -> None:
    """Replace files that belong to no attempt at this version of the step. The caller has locked the step.

    `confirm` asks the server, right before each write, whether the caller's transaction is still open: if this process
    was frozen in between, the step may belong to another worker. Raises `LeaseLost` or `StorageError`.
    """
    for path, content in output.foreign.items():
        confirm()
        write(path, content)


def _article_path(claim: Claim) -> str:
    return artifact_path(claim.run_id, claim.step, article_name(claim.step, is_last=claim.is_last))
