"""The front proxy that the applications in this folder mount below /k8s.

Its files are those of `make demo`, which leaves them in `.demo`: who is known, who may do what, and what the API server
recognises the front proxy by. `STATE` names another directory, `WARDLE_URL` where the API server listens.
"""

import os
from pathlib import Path

from aggmw import APIService, FrontProxy
from aggmw.middleware.authentication import ClientCertificates, StaticTokens
from aggmw.middleware.authorization import CasbinAuthorizer
from aggmw.middleware.proxy import Http1Transport
from aggmw.net.tls import ClientCertificatePair

STATE = Path(os.environ.get("STATE", ".demo"))

tokens = StaticTokens.load(STATE / "tokens.csv")


def make_front_proxy() -> FrontProxy:
    wardle = APIService.remote(
        "wardle.example.com",
        "v1alpha1",
        os.environ["WARDLE_URL"],
        ca=(STATE / "serving-ca.crt").read_bytes(),
        server_name="api.wardle.svc",
    )
    shown = ClientCertificatePair(STATE / "front-proxy-client.crt", STATE / "front-proxy-client.key")
    return FrontProxy(
        authentication=[ClientCertificates((STATE / "client-ca.crt").read_bytes()), tokens],
        authorization=CasbinAuthorizer.from_files(STATE / "policy.csv"),
        services=[wardle],
        transport=Http1Transport(client_certificate=shown),
    )
