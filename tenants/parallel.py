"""Do the same work for many tenants concurrently, in threads, which mostly wait for servers."""

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
    """Yield each item with the result or exception of `work`, in order of completion.

    Closing the generator drops the calls that have not started, and waits for those that have. Each call gets its own
    copy of the caller's context variables, such as the actor. `work` must close the database connections that it opens.
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
