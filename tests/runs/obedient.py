"""A worker that also takes orders by broadcast, which the product's refuse: a test tells it when to take wake-ups."""

from config import worker
from config.celery import app as app

worker._question = lambda body: body  # type: ignore[assignment,return-value]
