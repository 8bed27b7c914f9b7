"""The current actor of audit entries."""

import asyncio
import contextvars
from threading import Thread

from audit.log.actor import SYSTEM, Actor, acting_as, current_actor


def test_the_default_actor_is_the_system() -> None:
    assert contextvars.Context().run(current_actor) == SYSTEM == Actor("system", None)


def test_actors_can_be_nested() -> None:
    outer = current_actor()
    with acting_as("staff:bob"):
        with acting_as("operator:ann", "operation-1") as actor:
            assert current_actor() == actor == Actor("operator:ann", "operation-1")
        assert current_actor() == Actor("staff:bob", None)
    assert current_actor() == outer


def test_an_error_restores_the_outer_actor() -> None:
    outer = current_actor()
    try:
        with acting_as("staff:bob"):
            raise ValueError
    except ValueError:
        assert current_actor() == outer


def test_threads_and_tasks_do_not_see_each_others_actor() -> None:
    seen: list[Actor] = []

    async def act(name: str) -> Actor:
        with acting_as(name):
            await asyncio.sleep(0)
            return current_actor()

    async def act_together() -> tuple[Actor, Actor]:
        first, second = await asyncio.gather(act("a"), act("b"))
        return first, second

    with acting_as("staff:bob"):
        thread = Thread(target=lambda: seen.append(current_actor()))
        thread.start()
        thread.join()
        assert asyncio.run(act_together()) == (Actor("a"), Actor("b"))
    assert seen == [SYSTEM]
