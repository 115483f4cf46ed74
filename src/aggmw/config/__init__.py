"""The operator's configuration: a YAML file in, frozen dataclasses out, every mistake at once."""

from aggmw.config.configuration import (
    AnonymousConfiguration,
    AuthenticationConfiguration,
    AuthorizationConfiguration,
    Configuration,
    LocalServiceConfiguration,
    PathServiceConfiguration,
    ServicesConfiguration,
    StreamsConfiguration,
    TLSConfiguration,
)
from aggmw.config.load import load, parse

__all__ = [
    "AnonymousConfiguration",
    "AuthenticationConfiguration",
    "AuthorizationConfiguration",
    "Configuration",
    "LocalServiceConfiguration",
    "PathServiceConfiguration",
    "ServicesConfiguration",
    "StreamsConfiguration",
    "TLSConfiguration",
    "load",
    "parse",
]
