"""The operator's configuration: a YAML file in, frozen dataclasses out, every mistake at once."""

from aggmw.config.configuration import Configuration
from aggmw.config.load import load, parse

__all__ = ["Configuration", "load", "parse"]
