"""Answers as lines of text, for people who do not see the policy."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches

from aggmw.contracts.authorization import Attributes, Explanation, Miss, Outcome
from aggmw.contracts.identity import SYSTEM_ANONYMOUS, Identity
from aggmw.middleware.authorization.analysis.comparison import Difference, Reach
from aggmw.middleware.authorization.analysis.search import Holder, WhoCan

__all__ = ["asked_for", "caller_lines", "diff_lines", "note_lines", "who_can_lines", "why_lines"]


_QUOTED = re.compile(r'"([^"]*)"')
_BUT = "* but not "
_WHOM = ("user", "group", "role")  # `Miss.differs`: whom a rule is about
_FEW = 2  # authorizers whose opinions go without saying: the privileged groups, and one policy


def asked_for(attributes: Attributes) -> str:
    """What a request is for: `delete flunders.wardle.example.com/x in the namespace dev`."""
    if not attributes.is_resource:
        return f"{attributes.verb} {attributes.path}"
    what = f"{attributes.resource}.{attributes.api_group}" if attributes.api_group else attributes.resource
    if attributes.subresource:
        below = f"the subresource {attributes.subresource} of {what}"
        what = f"{below}/{attributes.name}" if attributes.name else below
    elif attributes.name:
        what += f"/{attributes.name}"
    where = f"in the namespace {attributes.namespace}" if attributes.namespace else "without a namespace"
    return f"{attributes.verb} {what} {where}"


def caller_lines(identity: Identity, added: Sequence[str]) -> Iterator[str]:
    """Who asks: everything that rules can look at."""
    yield f"The caller is {identity.user}. Groups: {', '.join(identity.groups) or 'none'}."
    if identity.user == SYSTEM_ANONYMOUS:
        yield "That is whoever brings no credential: with a token or a client certificate it is somebody else."
    if added:
        yield f"The server puts its callers into {', '.join(added)}, so that was done here, too."
    if identity.uid:
        yield f"Their uid is {identity.uid}."
    for key, values in identity.extra.items():
        yield f"Extra: {key}={', '.join(values)}"


def why_lines(attributes: Attributes, explanation: Explanation) -> Iterator[str]:
    """Why it is allowed; or why not, what nearly allowed it, and what would."""
    verdict = explanation.verdict
    may = "may" if verdict.allowed else "may not"
    yield f"{'allowed' if verdict.allowed else 'denied'}: {attributes.identity.user} {may} {asked_for(attributes)}"
    for name, said in explanation.opinions if len(explanation.opinions) > _FEW else ():
        because = said.reason or said.error
        yield f"  {name}: {_outcome(said.outcome)}{f' ({because})' if because else ''}"
    if verdict.error:
        yield ""
        yield f"Not everything could be asked: {verdict.error}."
    if explanation.rule:
        yield ""
        yield f"{'This' if verdict.allowed else 'A'} rule {'allows' if verdict.allowed else 'denies'} it:"
        yield f"  {explanation.rule}"
        for way in explanation.ways:
            yield f"  concerns {attributes.identity.user} by {' → '.join(way)}"
    elif verdict.reason:
        yield ""
        yield f"{_sentence(verdict.reason)}."
    if explanation.note:
        yield ""
        yield f"{_sentence(explanation.note)}"
    if not verdict.allowed:
        yield from _denied(attributes, explanation)


def _denied(attributes: Attributes, explanation: Explanation) -> Iterator[str]:
    if explanation.misses:
        yield ""
        besides = "and no rule allows it" if explanation.rule else "no rule allows it"
        yield f"{_sentence(besides)}. {'The nearest is' if len(explanation.misses) == 1 else 'The nearest are'}:"
        for miss in explanation.misses:
            yield f"  {miss.rule}"
            for differs in miss.differs:
                yield f"    {difference(*differs)}{_meant(attributes, miss, differs)}"
    elif not explanation.rule and not explanation.note:
        yield ""
        yield "No rule allows it, nor anything near it."
    if explanation.changes:
        yield ""
        several = len(explanation.changes) > 1
        yield f"To allow it{', one of these is enough' if several else ''}:"
        for change in explanation.changes:
            yield f"  - {change.text}{':' if change.add else ''}"
            yield from (f"      {line}" for line in change.add)


def _meant(attributes: Attributes, miss: Miss, differs: tuple[str, str, str]) -> str:
    """What the request could have been meant to say, where a rule knows it by a name that is nearly the same."""
    what, rule, _ = differs
    if any(name not in (what, *_WHOM) for name, _, _ in miss.differs):
        return ""
    if what == "apiGroup" and len(groups := _groups(rule)) == 1 and groups[0] not in ("*", "core"):
        return f"; is {attributes.resource}.{groups[0]} meant?"
    if what == "resource" and not attributes.subresource:
        alike = get_close_matches(attributes.resource, [one for one in rule.split("|") if "/" not in one], 1, 0.8)
        return f"; is {alike[0]} meant?" if alike else ""
    return ""


def _groups(rule: str) -> list[str]:
    """The API groups of a rule, which are listed between `|`, or as in a manifest."""
    names = _QUOTED.findall(rule) if rule.startswith("[") else rule.split("|")
    return [name or "core" for name in names]


def difference(what: str, rule: str, request: str) -> str:
    """One thing in which a rule and a request differ."""
    if what == "apiGroup":
        return f"apiGroup: the rule has {'|'.join(_groups(rule))}, the request has {request or 'core'}"
    several = "|" in rule or " more" in rule
    if what == "condition":
        return f"its condition {rule} is {request}"
    if what == "role":
        return f"{request} is not a member of {rule}"
    if what == "group":
        return f"{request} is in none of the groups {rule}" if several else f"{request} is not in the group {rule}"
    if what == "user":
        return f"it is about the {'users' if several else 'user'} {rule}, and the caller is {request}"
    if not rule:
        return f"the model wants {what}, and the request has {request or 'nothing like that'}"
    return f"{what}: the rule has {rule}, the request has {request or 'none'}"


def note_lines(note: str) -> Iterator[str]:
    """How a request was read, where it could be meant otherwise."""
    if note:
        yield f"{_sentence(note)}."


def who_can_lines(attributes: Attributes, found: WhoCan) -> Iterator[str]:
    """Who may, who is denied it, the roles, and who may a part."""
    yield f"Who can {asked_for(attributes)}:"
    if not found.allowed:
        yield "  nobody"
    yield from _holders(found.allowed)
    if found.denied:
        yield ""
        yield "Who cannot, because a rule denies it, whatever else they are:"
        yield from _holders(found.denied)
    if found.roles:
        yield ""
        yield "Roles that allow it:"
        for role in found.roles:
            yield f"  {role.role}  (members: {', '.join(role.members) or 'nobody'})"
    if found.partly:
        yield ""
        yield "Who can in part, where no namespace or no name was given:"
        for holder in found.partly:
            yield f"  {holder.subject}  {'; '.join(map(_part, holder.parts))}"
    if found.sampled:
        yield ""
        yield "The names in the policies were tried, as users and as groups. Others may be allowed it, too: a model of"
        yield "one's own, and a server that is asked, cannot be searched."


def _holders(holders: Sequence[Holder]) -> Iterator[str]:
    for holder in holders:
        yield f"  {holder.subject}"
        yield f"      {holder.rule}"
        yield from (f"      by {' → '.join(way)}" for way in holder.ways)


def _part(values: Mapping[str, str]) -> str:
    namespaces, names = values["namespaces"], values["names"]
    if namespaces.startswith(_BUT):
        where = f"everywhere but in {namespaces.removeprefix(_BUT)}"
    else:
        where = "everywhere" if namespaces == "*" else f"in {namespaces}"
    return where if names == "*" else f"{where}, named {_all(names, 'name')}"


def _all(value: str, what: str) -> str:
    """The value of a column, with words for `*`."""
    if value.startswith(_BUT):
        return f"every {what} but {value.removeprefix(_BUT)}"
    return f"every {what}" if value == "*" else value


def diff_lines(differences: Iterable[Difference]) -> Iterator[str]:
    """By callers, gains with +, losses with -."""
    for number, one in enumerate(differences):
        if number:
            yield ""
        yield ", ".join(one.subjects)
        for sign, reaches in (("+", one.gains), ("-", one.losses)):
            for reach in reaches:
                yield f"  {sign} {_reach(reach, sign)}"


def _reach(reach: Reach, sign: str) -> str:
    values = reach.values
    if "paths" in values:
        what = f"{_all(values['verbs'], 'verb')} {_all(values['paths'], 'path')}"
    else:
        resources, groups = _all(values["resources"], "resource"), _all(values["api_groups"], "group")
        what = f"{_all(values['verbs'], 'verb')} {resources} of {groups}, {_part(values)}"
    if not reach.otherwise:
        return what
    return f"{what}  ({'is no longer denied' if sign == '+' else 'is denied'}, if something else allows it)"


def _outcome(outcome: Outcome) -> str:
    return {Outcome.ALLOW: "allows it", Outcome.DENY: "denies it", Outcome.NO_OPINION: "says nothing of it"}[outcome]


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]
