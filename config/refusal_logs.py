"""A request that was refused is one line of the log: Django would add a traceback to each 400 and 403."""

import logging
from http import HTTPStatus


class RefusalsWithoutTraceback(logging.Filter):
    """Drop the traceback of a response that is no failure of ours; anybody who is logged in can cause as many."""

    def filter(self, record: logging.LogRecord) -> bool:
        status = getattr(record, "status_code", None)
        if isinstance(status, int) and status < HTTPStatus.INTERNAL_SERVER_ERROR:
            record.exc_info = record.exc_text = None
        return True
