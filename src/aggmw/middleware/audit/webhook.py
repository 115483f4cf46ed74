"""AuditWebhook: events as `EventList` objects to another server, from Kubernetes' kubeconfig file."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from aggmw.contracts.audit import AuditEvent
from aggmw.errors import UpstreamError
from aggmw.middleware.audit.batches import Batches, NotWanted, NotWritten, WhenFull
from aggmw.middleware.audit.encoding import encoded
from aggmw.net.kubeconfig import Remote, read_kubeconfig
from aggmw.net.webhooks import Refused, Retries, Webhook

__all__ = ["AuditWebhook"]

_BEGIN = b'{"kind":"EventList","apiVersion":"audit.k8s.io/v1","metadata":{},"items":['


class AuditWebhook(Batches):
    """An `AuditSink`: batches of events, each one POST to a server; kube-apiserver's `--audit-webhook-config-file`.

    A batch that cannot be delivered is kept and tried again, first after half a second, at last every 30 seconds; one
    that the server calls bad (400, 413, …) is dropped and counted.

    Args:
        webhook: the server.
        most: events in one batch.
        delay: seconds that the first event of a batch waits for others.
        limit: events that may wait to be sent.
        when_full: "drop": events are dropped and counted; "wait": requests wait until there is room.
        interval: seconds between two batches, at least.
    """

    def __init__(
        self,
        webhook: Webhook,
        *,
        most: int = 400,
        delay: float = 30.0,
        limit: int = 10_000,
        when_full: WhenFull = "drop",
        interval: float = 0.1,
    ) -> None:
        super().__init__(
            "webhook", self._post, most=most, delay=delay, limit=limit, when_full=when_full, interval=interval
        )
        self._webhook = webhook

    @classmethod
    def load(cls, kubeconfig: str | os.PathLike[str], **options: Any) -> AuditWebhook:
        """From a kubeconfig file, whose current context says where the server is; `options` as in the constructor.

        Raises:
            ConfigurationError: all the mistakes in the file.
        """
        return cls(_webhook(kubeconfig), **options)

    def __repr__(self) -> str:
        return f"AuditWebhook({self._webhook!r})"

    def reload(self, kubeconfig: str | os.PathLike[str] | Remote) -> None:
        """Send to the server of this file from now on, or to one that was read before, also what waits. On a mistake
        nothing changes.

        Raises:
            ConfigurationError: all the mistakes in the file.
        """
        self._webhook = _webhook(kubeconfig)

    async def _post(self, events: Sequence[AuditEvent]) -> None:
        try:
            await self._webhook.tell(await asyncio.to_thread(_list_of, events))
        except Refused as error:
            raise NotWanted(str(error)) from error
        except UpstreamError as error:
            raise NotWritten(str(error)) from error


def _webhook(kubeconfig: str | os.PathLike[str] | Remote) -> Webhook:
    remote = kubeconfig if isinstance(kubeconfig, Remote) else read_kubeconfig(Path(kubeconfig))
    # The batch is tried again by us, so one attempt is enough.
    return Webhook(remote, retries=Retries(attempts=1))


def _list_of(events: Sequence[AuditEvent]) -> bytes:
    return _BEGIN + b",".join(map(encoded, events)) + b"]}"
