"""The audit stage that a configuration describes."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from aggmw.config.configuration import AuditLogConfiguration, AuditWebhookConfiguration, Configuration
from aggmw.config.reloads import read_aside
from aggmw.contracts.audit import AuditSink
from aggmw.contracts.reloading import Reload
from aggmw.errors import ConfigurationError, Problem
from aggmw.middleware.audit import Audit, AuditLog, AuditPolicy
from aggmw.net.kubeconfig import read_kubeconfig

if TYPE_CHECKING:
    from aggmw.middleware.audit.webhook import AuditWebhook

__all__ = ["Audited", "audited"]


class Audited(NamedTuple):
    """The stage, if there is one, and what can be read again, by name."""

    audit: Audit | None = None
    reloads: Mapping[str, Reload] = {}


def audited(configuration: Configuration) -> Audited:
    """The stage with its policy, its log file and its webhook.

    Raises:
        ConfigurationError: all the mistakes in the files, and a log file that cannot be written.
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
    sinks: list[AuditSink] = []
    reloads: dict[str, Reload] = {}
    if settings.log is not None:
        try:
            log = _log_of(settings.log)
        except ConfigurationError as error:
            problems += error.problems
        else:
            sinks.append(log)
            reloads["audit log"] = log.reopen
    if settings.webhook is not None:
        try:
            webhook = _webhook_of(settings.webhook)
        except ConfigurationError as error:
            problems += error.problems
        else:
            sinks.append(webhook)
            read = partial(read_kubeconfig, settings.webhook.kubeconfig)
            reloads["audit webhook"] = read_aside(read, webhook.reload)
    if problems:
        raise ConfigurationError(problems)
    audit = Audit(policy, sinks, required=settings.required)
    reloads["audit policy"] = read_aside(partial(AuditPolicy.load, settings.policy_file), audit.reload)
    return Audited(audit, reloads)


def _log_of(settings: AuditLogConfiguration) -> AuditLog:
    log = AuditLog(
        settings.path,
        max_size=settings.max_size,
        max_age=settings.max_age,
        max_backups=settings.max_backups,
        limit=settings.queue,
        when_full="drop" if settings.when_full == "drop" else "wait",
    )
    log.check()
    return log


def _webhook_of(settings: AuditWebhookConfiguration) -> AuditWebhook:
    from aggmw.middleware.audit.webhook import AuditWebhook  # with httpx, which takes long

    return AuditWebhook.load(
        settings.kubeconfig,
        most=settings.batch,
        delay=settings.delay,
        interval=settings.interval,
        limit=settings.queue,
        when_full="wait" if settings.when_full == "wait" else "drop",
    )
