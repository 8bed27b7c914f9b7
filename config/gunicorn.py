"""gunicorn's configuration: ``gunicorn --config python:config.gunicorn config.wsgi:application``."""

import logging
import logging.config
from typing import Any

from gunicorn import glogging

from config import logs


class Logger(glogging.Logger):  # type: ignore[misc]
    """Sends gunicorn's log to the same handler, in the same format, as everything else (``config.logs``)."""

    def setup(self, cfg: Any) -> None:
        super().setup(cfg)
        for log in (self.error_log, self.access_log):
            for handler in list(log.handlers):
                log.removeHandler(handler)
            log.propagate = True
        logging.config.dictConfig(logs.configuration_from_environment(cfg.loglevel))


logger_class = Logger
