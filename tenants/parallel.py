"""Do the same for many tenants at once, in threads: mostly waiting for servers."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextvars import copy_context
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_parallel(
    work: Callable[[Item], Result], items: Sequence[Item], workers: int
) -> Generator[tuple[Item, Result | BaseException], None, None]:
    """Yield each item with what `work` returned for it or raised, in the order in which they end.

    Closing the generator drops what has not begun, and waits for what has. Each call sees the caller's context
    variables (who acts) in a copy of its own.
    """
    if not items:
        return
    with ThreadPoolExecutor(min(workers, len(items)), thread_name_prefix="tenants") as pool:
        futures: dict[Future[Result], Item] = {pool.submit(copy_context().run, work, item): item for item in items}
        try:
            for future in as_completed(futures):
                yield futures.pop(future), future.exception() or future.result()
        finally:
            pool.shutdown(cancel_futures=True)
