"""A worker that takes orders by broadcast, which the product's worker refuses: tests decide when it takes wake-ups."""

from config.celery import app as app
from config.queue import worker

worker._question = lambda body: body  # type: ignore[assignment,return-value]
