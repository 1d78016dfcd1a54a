"""The server's log: one line per event, as text or JSON, with the request's number in it.

Free text that people typed and the names of files may name patients: they are in the log only
where the server was started with `--log-questions`. Knows nothing about routes.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from contextvars import ContextVar
from datetime import datetime, timezone
from typing import Literal, get_args

LogFormat = Literal["text", "json"]
LOG_FORMATS: tuple[LogFormat, ...] = get_args(LogFormat)
FORMAT_VARIABLE = "BIRD_LOG_FORMAT"
QUESTIONS_VARIABLE = "BIRD_LOG_QUESTIONS"
HIDDEN = "-"
request_id: ContextVar[str] = ContextVar("request_id", default="-")

_TEXT = "%(asctime)s %(levelname)s %(name)s [%(request_id)s] %(message)s"
_PLAIN = frozenset(vars(logging.makeLogRecord({})))
_UNTOLD = _PLAIN | {"request_id", "message", "asctime", "color_message"}
# Below this level MONAI Label writes whole requests, file names and words into its log.
_MONAI_LABEL_LEVEL = logging.ERROR


class JsonFormatter(logging.Formatter):
    """One JSON object per line: time (UTC), level, logger, request, message and extra fields."""

    def format(self, record: logging.LogRecord) -> str:
        entry = {
            "time": datetime.fromtimestamp(record.created, timezone.utc).isoformat(
                "T", "milliseconds"
            ),
            "level": record.levelname.lower(),
            "logger": record.name,
            "request": getattr(record, "request_id", HIDDEN),
            "message": record.getMessage(),
        }
        entry |= {key: value for key, value in vars(record).items() if key not in _UNTOLD}
        if record.exc_info:
            entry["traceback"] = self.formatException(record.exc_info)
        return json.dumps(entry, default=str)


def configure(log_format: LogFormat) -> None:
    """Sends everything from INFO up to standard error, in one format."""
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(_add_request)
    handler.setFormatter(JsonFormatter() if log_format == "json" else logging.Formatter(_TEXT))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO)


def keep_names_out() -> None:
    """Silences what MONAI Label says of requests and files, unless questions may be logged."""
    level = logging.INFO if logs_questions() else _MONAI_LABEL_LEVEL
    logging.getLogger("monailabel").setLevel(level)
    logging.getLogger("uvicorn.access").setLevel(logging.WARNING)  # it would tell whole queries
    logging.getLogger("timeloop").setLevel(logging.WARNING)  # has a handler of its own


def logs_questions() -> bool:
    """Whether what people typed, and names of files, may be in the log."""
    return os.environ.get(QUESTIONS_VARIABLE) == "1"


def _add_request(record: logging.LogRecord) -> bool:
    record.request_id = request_id.get()
    return True
