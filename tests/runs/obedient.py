"""A worker that also takes orders by broadcast, which the product's refuse: a test tells it when to take wake-ups."""

from config.celery import app as app
from config.queue import worker

worker._question = lambda body: body  # type: ignore[assignment,return-value]
