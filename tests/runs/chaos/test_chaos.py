"""No run is lost while people act at random, the provider fails, and processes are killed or frozen, all at once."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace

import pytest

from config.stack.paths import CHECKOUT
from tests.runs.chaos.plan import Plan
from tests.runs.chaos.rabbit import is_available, own_vhost

# `make chaos`: 200 runs over 20 tenants, for five minutes.
ROUNDS = int(os.environ.get("CHAOS_ROUNDS", "0"))
LARGE = Plan(tenants=20, runs=8 * ROUNDS, seconds=12.0 * ROUNDS, workers=3, concurrency=16, people=4, rest_s=600)
PLAN = LARGE if ROUNDS else Plan()
LIMIT_S = 300 + 2 * PLAN.seconds + PLAN.rest_s

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(LIMIT_S)]


def run_chaos(plan: Plan) -> str:
    """Run the plan in an installation of its own, and return the report; fail if a problem was found."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.runs.chaos", *plan.arguments()],
        cwd=CHECKOUT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    print(done.stdout)
    assert done.returncode == 0, done.stdout
    return done.stdout


def test_every_run_ends_as_the_last_action_says() -> None:
    run_chaos(PLAN)


@pytest.mark.external
def test_rabbitmq_with_a_quorum_queue() -> None:
    if not is_available():
        pytest.skip("no RabbitMQ that we may administer")
    with own_vhost() as rabbit:
        run_chaos(replace(PLAN, amqp=rabbit.url))


@pytest.mark.external
@pytest.mark.skipif(not ROUNDS, reason="takes two minutes; set CHAOS_ROUNDS, for example to 1")
def test_outputs_in_s3() -> None:
    run_chaos(replace(PLAN, s3=True))
