"""The log: one line per event on standard error, JSON for programs or text for people."""

from __future__ import annotations

import json
import logging
import sys
import time
import traceback
from typing import TYPE_CHECKING, Any, Literal

import orjson

if TYPE_CHECKING:
    from fastcpu.serve.operation import Call, Operation, Reply


class Log:
    """Writes events.

    Args:
        form: ``json`` or ``text``.
        access: whether requests are events.
    """

    def __init__(self, form: Literal["json", "text"], access: bool) -> None:
        self._json = form == "json"
        self._access = access

    def event(self, level: Literal["info", "warning", "error"], message: str, **fields: Any) -> None:
        """Something that happened."""
        now = time.time()
        if self._json:
            line = _line({"time": round(now, 6), "level": level, "message": message, **fields})
        else:
            clock = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(now))
            trace = str(fields.pop("trace", "")).splitlines()
            words = [f"{clock} {level:7} {_shown(message)}"]
            words += [f"{key}={_word(value)}" for key, value in fields.items()]
            line = "\n  ".join([" ".join(words), *map(_shown, trace)])
        try:
            sys.stderr.write(line + "\n")
            sys.stderr.flush()
        except (OSError, ValueError):  # whoever read the log has gone, or the disk is full: serving goes on
            return

    def access(self, operation: Operation | None, call: Call, reply: Reply, seconds: float) -> None:
        """A request was answered; there may be no operation at its path."""
        if not self._access or (operation is not None and operation.light and reply.status < 400):
            return
        fields: dict[str, Any] = {
            "id": call.id,
            "client": call.client,
            "method": call.scope["method"],
            "path": call.scope["path"][:200],
            "status": reply.status,
            "ms": round(1e3 * seconds, 3),
            "bytes": len(reply.body),
        }
        if call.model:
            fields |= {"model": call.model, "tokens": call.tokens}
            fields |= {f"{name}_ms": round(1e3 * value, 3) for name, value in call.timings.items()}
        self.event("info", "request", **fields)

    def failure(self, identifier: str, error: Exception) -> None:
        """Something that should not have happened, with where it did."""
        trace = "".join(traceback.format_exception(error))
        self.event("error", f"{type(error).__name__}: {error}", id=identifier, trace=trace)


class Records(logging.Handler):
    """Lets the records of the libraries be events of a log."""

    def __init__(self, log: Log) -> None:
        super().__init__(logging.WARNING)
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        fields = {"logger": record.name}
        if record.exc_info:
            fields["trace"] = "".join(traceback.format_exception(*record.exc_info))
        self._log.event("error" if record.levelno >= logging.ERROR else "warning", record.getMessage(), **fields)

    def take(self, *names: str) -> None:
        """Takes over the loggers of these names."""
        for name in names:
            logger = logging.getLogger(name)
            logger.handlers = [self]
            logger.setLevel(logging.WARNING)
            logger.propagate = False


def _shown(text: str) -> str:
    """Text with what could move the cursor of a terminal or begin another line escaped."""
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


def _word(value: Any) -> str:
    """A value as one word: text with blanks or quotes is quoted."""
    text = str(value)
    if isinstance(value, str) and any(each in text for each in " \"'="):
        text = json.dumps(text, ensure_ascii=False)
    return _shown(text)


def _line(fields: dict[str, Any]) -> str:
    """JSON in one line, whatever the fields are."""
    try:
        return orjson.dumps(fields, default=str).decode()
    except TypeError:  # half a surrogate pair, as in names of files that are not UTF-8, or a large integer
        return json.dumps(fields, default=str)
