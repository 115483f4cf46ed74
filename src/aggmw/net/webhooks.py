"""Asking a webhook: one JSON object out, one back, with Kubernetes' retries (`k8s.io/apiserver/pkg/util/webhook`)."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from aggmw.errors import UpstreamBroken, UpstreamError, UpstreamTimeout
from aggmw.net.fetch import BrokenOff, Reply, fetch
from aggmw.net.kubeconfig import Remote
from aggmw.objects.encoding import encode

__all__ = ["Refused", "Retries", "Webhook"]

_JSON = b"application/json"
_AGAIN = frozenset({429, 500, 502, 503, 504})


@dataclass(frozen=True, slots=True)
class Retries:
    """How often, and after which pauses, what failed is asked again.

    Args:
        attempts: the first one included.
        pause: seconds before the second attempt.
        factor: by which each further pause is longer.
        jitter: the share of a pause that chance may add.
        longest: what a server may ask for with `Retry-After`, in seconds.
    """

    attempts: int = 5
    pause: float = 0.5
    factor: float = 1.5
    jitter: float = 0.2
    longest: float = 10.0


class Refused(UpstreamBroken):
    """The endpoint does not want what it was sent."""


class Webhook:
    """One endpoint. Every question has a connection of its own.

    Args:
        remote: where it is.
        timeout: seconds for one attempt.
        retries: for what may have more luck a moment later.
        limit: bytes of an answer.
    """

    def __init__(
        self, remote: Remote, *, timeout: float = 10.0, retries: Retries | None = None, limit: int = 1024 * 1024
    ) -> None:
        self._remote = remote
        self._timeout = timeout
        self._retries = retries or Retries()
        self._limit = limit

    def __repr__(self) -> str:
        return f"Webhook({self._remote.url})"

    async def ask(self, value: Mapping[str, Any]) -> dict[str, Any]:
        """The answer to an object.

        Raises:
            UpstreamError: there is none: nobody answered, not in time, with an error, or with something else than an
                object. The text names no credential.
        """
        return _object(await self.tell(encode(value)))

    async def tell(self, content: bytes) -> Reply:
        """Send JSON to somebody whose answer, but for its status, does not matter.

        Raises:
            Refused: what was sent was answered with an error that another attempt would not change.
            UpstreamError: as above.
        """
        pause = self._retries.pause
        for left in reversed(range(self._retries.attempts)):
            wait: float | None = None
            try:
                reply = await self._once(content)
                if reply.status < 300:
                    return reply
                wait = self._told(reply)
                again = reply.status in _AGAIN or wait is not None
                kind = UpstreamBroken if again else Refused
                failure: UpstreamError = kind(f"the webhook answered {reply.status}")
            except UpstreamError as error:
                if isinstance(error, UpstreamBroken) and not isinstance(error, BrokenOff):
                    raise
                failure, again = error, True
            if not left or not again:
                raise failure
            await asyncio.sleep(pause * (1 + self._retries.jitter * random.random()) if wait is None else wait)  # noqa: S311
            pause *= self._retries.factor
        raise UpstreamTimeout("the webhook was not asked: no attempts are configured")

    async def _once(self, content: bytes) -> Reply:
        remote = self._remote
        headers = [(b"content-type", _JSON), (b"accept", _JSON)]
        try:
            authorization = (
                await asyncio.to_thread(remote.authorization) if remote.token_file else remote.authorization()
            )
        except (OSError, UnicodeError):
            raise UpstreamBroken("the file of the webhook's token cannot be read") from None
        if authorization is not None:
            headers.append((b"authorization", authorization))
        return await fetch(
            remote.url,
            context=remote.context,
            limit=self._limit,
            timeout=self._timeout,
            method="POST",
            headers=headers,
            content=content,
            server_name=remote.server_name,
        )

    def _told(self, reply: Reply) -> float | None:
        """What the server asks for with `Retry-After`, in seconds; None where it does not."""
        for name, value in reply.headers:
            if name.lower() == b"retry-after" and value.isdigit() and len(value) < 10:
                return min(float(value), self._retries.longest)
        return None


def _object(reply: Reply) -> dict[str, Any]:
    try:
        value = json.loads(reply.body)
    except (ValueError, RecursionError):
        raise UpstreamBroken("the webhook's answer is not JSON") from None
    if not isinstance(value, dict):
        raise UpstreamBroken("the webhook's answer is no object")
    return value
