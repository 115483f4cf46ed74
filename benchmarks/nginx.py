"""nginx, as the backend of small answers and as a peer that forwards: one worker in one process, logs off."""

from __future__ import annotations

from pathlib import Path

from benchmarks.workspace import ANSWER, GROUP, LARGE, SERVER_NAME, STREAMS, Workspace, resource_list

__all__ = ["backend_configuration", "peer_configuration"]

_COMMON = """\
daemon off;
master_process off;
pid {directory}/{name}.pid;
error_log {directory}/{name}.log;
events {{ worker_connections 16384; }}
http {{
    access_log off;
    keepalive_requests 1000000000;
    keepalive_timeout 1h;
    client_max_body_size 0;
    tcp_nodelay on;
    sendfile on;
    client_body_temp_path {directory}/{name}-body;
    proxy_temp_path {directory}/{name}-proxy;
    fastcgi_temp_path {directory}/{name}-fastcgi;
    uwsgi_temp_path {directory}/{name}-uwsgi;
    scgi_temp_path {directory}/{name}-scgi;
{servers}
}}
"""

_LISTEN_TLS = """\
        listen 127.0.0.1:{port} ssl backlog=4096;
        ssl_protocols TLSv1.2 TLSv1.3;
        ssl_certificate {certificate};
        ssl_certificate_key {key};
"""
_LISTEN = "        listen 127.0.0.1:{port} backlog=4096;\n"

_FORWARD = """\
    upstream small {{ server 127.0.0.1:{backend}; keepalive 4096; keepalive_requests 1000000000; }}
    upstream streams {{ server 127.0.0.1:{streams}; keepalive 4096; keepalive_requests 1000000000; }}
    proxy_http_version 1.1;
    map $http_upgrade $connection_upgrade {{ default upgrade; "" ""; }}
    proxy_set_header Connection $connection_upgrade;
    proxy_set_header Upgrade $http_upgrade;
    proxy_set_header Host $host;
    proxy_set_header X-Forwarded-For $remote_addr;
    proxy_set_header X-Forwarded-Proto $scheme;
    proxy_request_buffering off;
    proxy_max_temp_file_size 0;
    proxy_read_timeout 1h;
"""
_FORWARD_TLS = """\
    proxy_ssl_verify on;
    proxy_ssl_trusted_certificate {ca};
    proxy_ssl_name {server_name};
    proxy_ssl_server_name on;
    proxy_ssl_certificate {certificate};
    proxy_ssl_certificate_key {key};
"""


def backend_configuration(workspace: Workspace, port: int, tls_port: int, large: int) -> Path:
    """A backend on two ports, plain and TLS, that also serves a file of `large` bytes.

    Over TLS it believes the front-proxy certificate of whoever shows one.
    """
    with (workspace.path / "large").open("wb") as file:
        file.truncate(large)
    default = "        default_type application/json;\n"
    locations = f"""\
        location = /apis/{GROUP}/v1 {{ {_returning(resource_list(GROUP, "things", "Thing"))} }}
        location = {LARGE} {{ alias {workspace.path}/large; }}
        location /apis/{GROUP}/v1/ {{ {_returning(ANSWER)} }}
        location / {{ return 404; }}
"""
    verify = (
        "        ssl_verify_client optional;\n"
        f"        ssl_client_certificate {workspace.certificate('front-proxy-ca')};\n"
    )
    plain = _server(_LISTEN.format(port=port), default + locations)
    return _write(
        workspace, "backend", plain + _server(_tls(workspace, tls_port, "back") + verify, default + locations)
    )


def peer_configuration(workspace: Workspace, name: str, port: int, backend: int, streams: int, *, tls: bool) -> Path:
    """A forwarding nginx with keep-alive on both sides that streams both bodies."""
    forward = _FORWARD.format(backend=backend, streams=streams)
    if tls:
        forward += _FORWARD_TLS.format(
            ca=workspace.certificate("back-ca"),
            server_name=SERVER_NAME,
            certificate=workspace.certificate("front-proxy"),
            key=workspace.key("front-proxy"),
        )
    scheme = "https" if tls else "http"
    locations = f"""\
        location /apis/{STREAMS}/ {{ proxy_buffering off; proxy_pass {scheme}://streams; }}
        location / {{ proxy_pass {scheme}://small; }}
"""
    listen = _tls(workspace, port, "front") if tls else _LISTEN.format(port=port)
    return _write(workspace, name, forward + _server(listen, locations))


def _tls(workspace: Workspace, port: int, name: str) -> str:
    return _LISTEN_TLS.format(port=port, certificate=workspace.certificate(name), key=workspace.key(name))


def _returning(body: str) -> str:
    return f"return 200 '{body}';"


def _server(listen: str, rest: str) -> str:
    return f"    server {{\n{listen}{rest}    }}\n"


def _write(workspace: Workspace, name: str, servers: str) -> Path:
    path = workspace.path / f"{name}.conf"
    path.write_text(_COMMON.format(directory=workspace.path, name=name, servers=servers))
    return path
