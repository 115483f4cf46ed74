"""The audit stage that a configuration describes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from aggmw.config.configuration import Configuration
from aggmw.errors import ConfigurationError, Problem
from aggmw.middleware.audit import Audit, AuditLog, AuditPolicy

__all__ = ["Audited", "audited"]


class Audited(NamedTuple):
    """The stage, if there is one, and what can be read again, by name."""

    audit: Audit | None = None
    reloads: Mapping[str, Callable[[], None]] = {}


def audited(configuration: Configuration) -> Audited:
    """The stage with its policy and its log file.

    Raises:
        ConfigurationError: all the mistakes of the policy, and a log file that cannot be written.
    """
    settings = configuration.audit
    if settings is None:
        return Audited()
    problems: list[Problem] = []
    policy = AuditPolicy.everything()
    try:
        policy = AuditPolicy.load(settings.policy_file)
    except ConfigurationError as error:
        problems += error.problems
    log: AuditLog | None = None
    try:
        log = AuditLog(
            settings.log.path,
            max_size=settings.log.max_size,
            max_age=settings.log.max_age,
            max_backups=settings.log.max_backups,
            limit=settings.log.queue,
            when_full="drop" if settings.log.when_full == "drop" else "wait",
        )
    except ConfigurationError as error:
        problems += error.problems
    if problems or log is None:
        raise ConfigurationError(problems)
    audit = Audit(policy, [log], required=settings.required)
    return Audited(
        audit,
        {
            "audit policy": lambda: audit.reload(AuditPolicy.load(settings.policy_file)),
            "audit log": log.reopen,
        },
    )
