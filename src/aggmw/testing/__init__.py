"""Tools for testing what is built with aggmw; nothing here needs pytest, except `aggmw.testing.plugin`.

========================  ==============================================================================================
`Client`                  requests an ASGI application as a server would: streaming, WebSockets, lifespan, nothing
                          buffered
`lint`                    fails on any ASGI message out of order; the client uses it, and it fits around any application
`ScriptedBackend`         a TCP or TLS server that does what its steps say, byte for byte: `ReadHead`, `Send`, `Reset` …
`respond`                 the raw bytes of a response, for a backend to send
`ReceivedRequest`         what a backend received, taken apart
`frames`                  WebSocket handshakes and frames as bytes, right ones and wrong ones, for a scripted backend
`VirtualClock`            moves the event loop's time, so that nobody sleeps
`hygiene.Watch`           finds tasks, sockets and exceptions left behind, and what blocked the loop
`served.served`           an ASGI application on a real socket
`transports`, `wire`      suites that every way to reach a backend passes, yours too
========================  ==============================================================================================

With pytest and pytest-asyncio, `pytest_plugins = ["aggmw.testing.plugin"]` gives the fixtures `clock` and `hygiene`.
"""

from aggmw.testing._connection import BackendConnection, PeerGone
from aggmw.testing._exchange import ClientDisconnected, IncompleteResponse
from aggmw.testing.backend import ScriptedBackend
from aggmw.testing.client import Client, Response, StreamedResponse
from aggmw.testing.clock import VirtualClock
from aggmw.testing.lifespan import Lifespan, LifespanFailed
from aggmw.testing.lint import LintError, lint
from aggmw.testing.raw import ReceivedRequest, respond
from aggmw.testing.steps import Close, Expect, Hold, ReadHead, ReadRequest, ReadToEnd, Reset, Send, Step, Wait
from aggmw.testing.websocket import WebSocket, WebSocketClosed

__all__ = [
    "BackendConnection",
    "Client",
    "ClientDisconnected",
    "Close",
    "Expect",
    "Hold",
    "IncompleteResponse",
    "Lifespan",
    "LifespanFailed",
    "LintError",
    "PeerGone",
    "ReadHead",
    "ReadRequest",
    "ReadToEnd",
    "ReceivedRequest",
    "Reset",
    "Response",
    "ScriptedBackend",
    "Send",
    "Step",
    "StreamedResponse",
    "VirtualClock",
    "Wait",
    "WebSocket",
    "WebSocketClosed",
    "lint",
    "respond",
]
