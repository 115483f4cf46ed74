"""A token in a file that somebody else replaces, as those of service accounts are."""

from __future__ import annotations

import re
import threading
from pathlib import Path

import structlog

__all__ = ["TokenFile"]

_log = structlog.get_logger("aggmw.net")

_REREAD_SECONDS = 10.0
_OLD_SECONDS = 60.0  # of what was read when a token was last asked for: it may have ended since
_WAIT_SECONDS = 0.25
_TOKEN = re.compile(r"[\x21-\x7e]+").fullmatch


class TokenFile:
    """The token of a file. The last good one is kept when the file cannot be read.

    Args:
        path: the file, read at first use, and again after ten seconds. That is done in a thread, and what there was
            will do meanwhile; where nobody has asked for a minute, it is waited for, a quarter of a second at most.
    """

    __slots__ = ("_again", "_path", "_reading", "_value")

    def __init__(self, path: Path) -> None:
        self._path = path
        self._value = b""
        self._again = float("-inf")
        self._reading = False

    def __repr__(self) -> str:
        return f"TokenFile({str(self._path)!r})"

    def value(self, now: float) -> bytes:
        """The token; b"" while there has been none.

        Args:
            now: in seconds, of a clock that nobody sets.
        """
        if now >= self._again and not self._reading:
            old = now >= self._again - _REREAD_SECONDS + _OLD_SECONDS
            self._again = now + _REREAD_SECONDS
            if self._value:
                self._begin(_WAIT_SECONDS if old else 0.0)
            else:
                self._read()
        return self._value

    def _begin(self, seconds: float) -> None:
        """Read it in a thread, and wait so long for it."""
        thread = threading.Thread(target=self._read_aside, name=f"token file {self._path}", daemon=True)
        self._reading = True
        try:
            thread.start()
        except RuntimeError as error:  # no thread can be had now
            self._reading = False
            _log.error("token file cannot be read", path=str(self._path), reason=str(error), kept=True)
        else:
            thread.join(seconds)

    def _read_aside(self) -> None:
        try:
            self._read()
        finally:
            self._reading = False

    def _read(self) -> None:
        try:
            text = self._path.read_text("ascii").strip()
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or "it is not ASCII text"
            _log.error("token file cannot be read", path=str(self._path), reason=reason, kept=bool(self._value))
            return
        if _TOKEN(text):
            self._value = text.encode("ascii")
        else:
            _log.error("token file holds no token", path=str(self._path), kept=bool(self._value))
