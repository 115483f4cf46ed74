"""Impersonation (wire contract §6.10): who may act as whom, what they become, and what never gets through."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aggmw.asgi.headers import fold
from aggmw.asgi.types import Receive, Scope, Send
from aggmw.contracts.authorization import Attributes, Outcome, Verdict
from aggmw.contracts.exchange import Exchange
from aggmw.contracts.identity import Credential, Identity
from aggmw.contracts.request_info import RequestInfo
from aggmw.errors import MissingInput, StatusError
from aggmw.middleware.authentication import AuthenticationMiddleware, StaticTokens
from aggmw.middleware.authorization import AllowAll, AuthorizationMiddleware
from aggmw.middleware.impersonation import Impersonation, ImpersonationMiddleware
from aggmw.middleware.request_info import RequestInfoMiddleware
from aggmw.testing import Client

CREDENTIAL = Credential(ambient=True, expires=1_700_000_000.0)
ALICE = Identity("alice", "u-1", ("dev",), credential=CREDENTIAL)
PODS = RequestInfo(
    True, "list", "GET", "/api/v1/namespaces/dev/pods", b"", "api", "", "v1", namespace="dev", resource="pods"
)
AUTHENTICATION = "authentication.k8s.io"


def right(attributes: Attributes) -> str:
    """A right in a line: verb, group/resource/subresource, namespace/name."""
    resource = "/".join(each for each in (attributes.api_group, attributes.resource, attributes.subresource) if each)
    where = "/".join(each for each in (attributes.namespace, attributes.name) if each)
    return f"{attributes.verb} {resource} {where}".strip()


class Grants:
    """Allows listed rights, and remembers what was asked."""

    def __init__(self, *rights: str) -> None:
        self.rights = rights
        self.asked: list[Attributes] = []

    async def authorize(self, attributes: Attributes) -> Verdict:
        self.asked.append(attributes)
        allowed = right(attributes) in self.rights
        return Verdict(Outcome.ALLOW if allowed else Outcome.NO_OPINION)

    @property
    def lines(self) -> list[str]:
        return list(map(right, self.asked))


def exchange(
    *headers: tuple[str, str], identity: Identity | None = ALICE, info: RequestInfo | None = PODS, kind: str = "http"
) -> Exchange:
    fields = tuple([(name.lower().encode(), value.encode()) for name, value in (("Host", "h"), *headers)])
    return Exchange({"type": kind}, fields, request_info=info, identity=identity)


async def acted(*headers: tuple[str, str], by: Any, **options: Any) -> Exchange:
    """The exchange after a request that was let through."""
    one = exchange(*headers)
    assert await Impersonation(by, **options).decide(one) is None
    return one


async def refused(*headers: tuple[str, str], by: Any, **options: Any) -> str:
    """The message of a request that was not."""
    one = exchange(*headers)
    answer = await Impersonation(by, **options).decide(one)
    assert answer is not None
    assert answer.status == 403
    assert (one.identity, one.impersonator) == (ALICE, None)
    return answer.body.decode().partition('"message":"')[2].partition('","reason"')[0].replace('\\"', '"')


BOB = ("Impersonate-User", "bob")


async def test_without_headers_nobody_is_asked() -> None:
    """A request that impersonates nobody costs no decision."""
    by = Grants()
    one = await acted(by=by)
    assert (one.identity, by.asked) == (ALICE, [])


async def test_user_as_legacy() -> None:
    """The plain right: `impersonate users bob` in the core group, judged as the caller itself."""
    by = Grants("impersonate users bob")
    one = await acted(BOB, by=by, constrained=False)
    assert by.lines == ["impersonate users bob"]
    assert (by.asked[0].identity, by.asked[0].api_version) == (ALICE, "v1")
    assert one.identity == Identity("bob", groups=("system:authenticated",))
    assert (one.impersonator, one.impersonation) == (ALICE, "")
    assert one.headers == ((b"host", b"h"),)


async def test_credential_survives() -> None:
    """What the caller was known by, and when that ends, holds for whom it acts as: streams end, pages are refused."""
    one = await acted(BOB, by=Grants("impersonate users bob"))
    assert one.identity is not None
    assert one.identity.credential == CREDENTIAL


async def test_every_value_is_a_right() -> None:
    """User, uid, each group and each extra value are asked for by themselves."""
    rights = [
        "impersonate users bob",
        "impersonate authentication.k8s.io/uids u-2",
        "impersonate groups ops",
        "impersonate groups qa",
        "impersonate authentication.k8s.io/userextras/scopes view",
        "impersonate authentication.k8s.io/userextras/example.com/a b",
    ]
    headers = (
        BOB,
        ("Impersonate-Group", "ops"),
        ("Impersonate-Uid", "u-2"),
        ("impersonate-group", "qa"),
        ("Impersonate-Extra-Scopes", "view"),
        ("Impersonate-Extra-example.com%2fa", "b"),
    )
    by = Grants(*rights)
    one = await acted(*headers, by=by, constrained=False)
    assert by.lines == rights
    extra = {"scopes": ("view",), "example.com/a": ("b",)}
    assert one.identity == Identity("bob", "u-2", ("ops", "qa", "system:authenticated"), extra)
    for missing in rights:
        others = Grants(*(each for each in rights if each != missing))
        await refused(*headers, by=others, constrained=False)


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        (
            "impersonate users bob",
            'users "bob" is forbidden: User "alice" cannot impersonate resource "users" in API group "" at the cluster'
            " scope",
        ),
        (
            "impersonate groups ops",
            'groups "ops" is forbidden: User "alice" cannot impersonate resource "groups" in API group "" at the'
            " cluster scope",
        ),
        (
            "impersonate authentication.k8s.io/uids u-2",
            'uids.authentication.k8s.io "u-2" is forbidden: User "alice" cannot impersonate resource "uids" in API'
            ' group "authentication.k8s.io" at the cluster scope',
        ),
        (
            "impersonate authentication.k8s.io/userextras/scopes view",
            'userextras.authentication.k8s.io "view" is forbidden: User "alice" cannot impersonate resource'
            ' "userextras/scopes" in API group "authentication.k8s.io" at the cluster scope',
        ),
    ],
)
async def test_refusal_in_the_words_of_kubernetes(missing: str, message: str) -> None:
    """403 names the first right that is missing."""
    rights = {
        "impersonate users bob",
        "impersonate groups ops",
        "impersonate authentication.k8s.io/uids u-2",
        "impersonate authentication.k8s.io/userextras/scopes view",
    }
    headers = (BOB, ("Impersonate-Group", "ops"), ("Impersonate-Uid", "u-2"), ("Impersonate-Extra-scopes", "view"))
    assert await refused(*headers, by=Grants(*(rights - {missing})), constrained=False) == message


@pytest.mark.parametrize(
    ("user", "groups", "become"),
    [
        ("bob", (), ("system:authenticated",)),
        ("bob", ("ops",), ("ops", "system:authenticated")),
        ("bob", ("system:authenticated",), ("system:authenticated",)),
        ("bob", ("system:unauthenticated",), ("system:unauthenticated",)),
        ("system:anonymous", (), ("system:unauthenticated",)),
        ("system:anonymous", ("ops",), ("ops", "system:unauthenticated")),
        (
            "system:serviceaccount:dev:builder",
            (),
            ("system:serviceaccounts", "system:serviceaccounts:dev", "system:authenticated"),
        ),
        ("system:serviceaccount:dev:builder", ("ops",), ("ops", "system:authenticated")),
        ("system:serviceaccount:dev", (), ("system:authenticated",)),
        ("system:node:n1", (), ("system:authenticated",)),
    ],
)
async def test_groups(user: str, groups: tuple[str, ...], become: tuple[str, ...]) -> None:
    """§6.10: which groups follow from the name and from those that were given."""
    headers = [("Impersonate-User", user), *(("Impersonate-Group", group) for group in groups)]
    one = await acted(*headers, by=AllowAll(), constrained=False)
    assert one.identity is not None
    assert one.identity.groups == become


async def test_service_account_is_a_resource_of_its_own() -> None:
    """The right is over the account in its namespace; over `users` it counts for nothing."""
    account = ("Impersonate-User", "system:serviceaccount:dev:builder")
    await acted(account, by=Grants("impersonate serviceaccounts dev/builder"), constrained=False)
    await refused(account, by=Grants("impersonate users system:serviceaccount:dev:builder"), constrained=False)


# --- the rights that are bound to what is done ---


def on(mode: str, *more: str) -> tuple[str, ...]:
    return (f"impersonate-on:{mode}:list pods dev", *more)


@pytest.mark.parametrize(
    ("headers", "rights", "constraint"),
    [
        ([BOB], on("user-info", f"impersonate:user-info {AUTHENTICATION}/users bob"), "user-info"),
        (
            [BOB, ("Impersonate-Group", "ops")],
            on(
                "user-info",
                f"impersonate:user-info {AUTHENTICATION}/users bob",
                f"impersonate:user-info {AUTHENTICATION}/groups ops",
            ),
            "user-info",
        ),
        (
            [("Impersonate-User", "system:serviceaccount:dev:builder")],
            on("serviceaccount", f"impersonate:serviceaccount {AUTHENTICATION}/serviceaccounts dev/builder"),
            "serviceaccount",
        ),
        (
            [("Impersonate-User", "system:node:n1")],
            on("arbitrary-node", f"impersonate:arbitrary-node {AUTHENTICATION}/nodes n1"),
            "arbitrary-node",
        ),
    ],
)
async def test_constrained(headers: list[tuple[str, str]], rights: tuple[str, ...], constraint: str) -> None:
    """Both rights, over the identity and over the request, and neither alone."""
    one = await acted(*headers, by=Grants(*rights))
    assert one.impersonation == f"impersonate:{constraint}"
    for missing in rights:
        await refused(*headers, by=Grants(*(each for each in rights if each != missing)))
    await refused(*headers, by=Grants(*rights), constrained=False)


async def test_node_has_fixed_groups() -> None:
    """A node that is impersonated by a node's right is in system:nodes, and nothing else can be said of it."""
    rights = on("arbitrary-node", f"impersonate:arbitrary-node {AUTHENTICATION}/nodes n1")
    node = ("Impersonate-User", "system:node:n1")
    one = await acted(node, by=Grants(*rights))
    assert one.identity is not None
    assert one.identity.groups == ("system:nodes", "system:authenticated")
    await refused(node, ("Impersonate-Group", "ops"), by=Grants(*rights))


async def test_own_node() -> None:
    """A service account may get the right over the node it runs on, without that node being named."""
    node = ("Impersonate-User", "system:node:n1")
    rights = on("associated-node", f"impersonate:associated-node {AUTHENTICATION}/nodes *")
    key = "authentication.kubernetes.io/node-name"
    for name, user, lets in [("n1", "system:serviceaccount:kube-system:agent", True), ("n2", "", False)]:
        agent = Identity(user or "system:serviceaccount:kube-system:agent", extra={key: (name,)})
        one = exchange(node, identity=agent)
        answer = await Impersonation(Grants(*rights)).decide(one)
        assert (answer is None) is lets
    person = Identity("alice", extra={key: ("n1",)})
    assert await Impersonation(Grants(*rights)).decide(exchange(node, identity=person)) is not None


async def test_constrained_never_makes_a_master() -> None:
    """`system:masters` needs the plain right, which is bound to nothing; the newer one never gives it."""

    class NewRights:
        async def authorize(self, attributes: Attributes) -> Verdict:
            return Verdict(Outcome.ALLOW if attributes.verb != "impersonate" else Outcome.NO_OPINION)

    message = await refused(BOB, ("Impersonate-Group", "system:masters"), by=NewRights())
    assert message.endswith("impersonating the system:masters group is not allowed")


@pytest.mark.parametrize("header", ["Impersonate-Extra-scopes", "Impersonate-Extra-%2Fa", "Impersonate-Extra-a%2F"])
async def test_constrained_extra_keys_have_a_domain(header: str) -> None:
    """Keys without a domain in front are refused by the newer rights."""

    class NewRights:
        async def authorize(self, attributes: Attributes) -> Verdict:
            return Verdict(Outcome.ALLOW if attributes.verb != "impersonate" else Outcome.NO_OPINION)

    assert "without a domain" in await refused(BOB, (header, "v"), by=NewRights())


async def test_many_groups_by_one_right() -> None:
    """From four groups on, a right over all of them is asked for first."""
    groups = [("Impersonate-Group", group) for group in ("a", "b", "c", "d")]
    user = f"impersonate:user-info {AUTHENTICATION}/users bob"
    await acted(BOB, *groups, by=Grants(*on("user-info", user, f"impersonate:user-info {AUTHENTICATION}/groups *")))
    each = [f"impersonate:user-info {AUTHENTICATION}/groups {name}" for name in "abcd"]
    await acted(BOB, *groups, by=Grants(*on("user-info", user, *each)))


async def test_handshake_needs_create_too() -> None:
    """Over a WebSocket for exec more than reading is done: the bound right covers both, or it does not hold.

    A proxy that only asks does not say for certain that it is one.
    """
    info = PODS._replace(verb="get", name="p", subresource="exec", long_running=True)
    rights = ["impersonate-on:user-info:get pods/exec dev/p", f"impersonate:user-info {AUTHENTICATION}/users bob"]
    asked = exchange(BOB, info=info)
    asked.asked_by = "envoy"
    assert await Impersonation(Grants(*rights)).decide(asked) is not None
    one = exchange(BOB, info=info, kind="websocket")
    assert await Impersonation(Grants(*rights)).decide(one) is not None
    assert await Impersonation(Grants(*rights, "impersonate-on:user-info:create pods/exec dev/p")).decide(one) is None


async def test_figures() -> None:
    """What was let is counted by the right that let it, and what was not apart; who impersonates nobody is not."""
    stage = Impersonation(
        Grants("impersonate users bob", *on("user-info", f"impersonate:user-info {AUTHENTICATION}/users carol"))
    )
    for headers in ([BOB], [("Impersonate-User", "carol")], [("Impersonate-User", "dora")], []):
        await stage.decide(exchange(*headers))
    shown = {tuple(value for _, value in each.labels): each.value for each in stage.samples()}
    assert {labels: value for labels, value in shown.items() if value} == {
        ("legacy", "allowed"): 1,
        ("user-info", "allowed"): 1,
        ("", "denied"): 1,
    }
    assert len(shown) == 6


# --- what cannot be read ---


@pytest.mark.parametrize(
    ("headers", "what"),
    [
        ([("Impersonate-Group", "ops")], "a uid, groups or extra without a user"),
        ([("Impersonate-Uid", "1")], "a uid, groups or extra without a user"),
        ([("Impersonate-Extra-a", "1")], "a uid, groups or extra without a user"),
        ([("Impersonate-User", "")], "an empty user"),
        ([BOB, ("Impersonate-User", "carol")], "several users"),
        ([BOB, ("Impersonate-Uid", "1"), ("Impersonate-Uid", "2")], "several users or several uids"),
        ([BOB, ("Impersonate-Group", "")], "a group name is empty"),
        ([BOB, ("Impersonate-Group", " system:masters")], "white space"),
        ([BOB, ("Impersonate_Group", "system:masters")], "none of User, Uid, Group and Extra"),
        ([BOB, ("Impersonate.User", "root")], "none of User, Uid, Group and Extra"),
        ([BOB, ("Impersonate-Groups", "ops")], "none of User, Uid, Group and Extra"),
        ([BOB, ("Impersonate-Extra-", "ops")], "an extra key is empty"),
        ([BOB, ("Impersonate-Extra-%41", "ops")], "not in lower case"),
        ([BOB, ("Impersonate-Extra-%0a", "ops")], "control character"),
    ],
)
async def test_unreadable_headers(headers: list[tuple[str, str]], what: str) -> None:
    """400, whatever the caller may do: nothing is ignored, because another reader might believe it."""
    with pytest.raises(StatusError, match=what) as caught:
        await Impersonation(AllowAll()).decide(exchange(*headers))
    assert (caught.value.code, caught.value.reason) == (400, "BadRequest")


async def test_text_that_is_not_utf_8() -> None:
    """Bytes that are no text are nobody's name."""
    one = exchange()
    one.headers = ((b"impersonate-user", b"\xff"),)
    with pytest.raises(StatusError, match="not UTF-8"):
        await Impersonation(AllowAll()).decide(one)


async def test_broken_authorizer() -> None:
    """An authorizer that fails is a 500, never a yes."""

    class Broken:
        async def authorize(self, attributes: Attributes) -> Verdict:
            raise LookupError("s3cr3t")

    with pytest.raises(StatusError) as caught:
        await Impersonation(Broken()).decide(exchange(BOB))
    assert (caught.value.code, "s3cr3t" in str(caught.value)) == (500, False)


async def test_missing_stages() -> None:
    """Without a caller or a parsed request: an error that names both stages."""
    for one in (exchange(BOB, identity=None), exchange(BOB, info=None)):
        with pytest.raises(MissingInput, match="impersonation needs"):
            await Impersonation(AllowAll()).decide(one)


# --- in a stack ---


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    fields = [name for name, _ in scope["headers"] if fold(name).startswith(b"impersonate")]
    body = f"{scope['user'].display_name} {scope['aggmw.identity'].groups} {fields}".encode()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})


async def test_alone_in_a_stack() -> None:
    """Who is acted as is `scope["user"]` inside, and no header of it is left."""
    app = ImpersonationMiddleware(echo, authorizer=Grants("impersonate users bob"))
    stack = RequestInfoMiddleware(
        AuthenticationMiddleware(app, authenticators=[StaticTokens({"t": ALICE})], impersonation=True)
    )
    headers = {"Authorization": "Bearer t", "Impersonate-User": "bob"}
    response = await Client(stack).request("GET", "/", headers)
    assert response.text == "bob ('system:authenticated',) []"
    headers["Impersonate-User"] = "carol"
    assert (await Client(stack).request("GET", "/", headers)).status == 403


async def test_headers_are_never_ignored() -> None:
    """§12.6: headers that are left to a stage which is not there are an error, not a request of the caller's own."""
    stack = RequestInfoMiddleware(
        AuthenticationMiddleware(
            AuthorizationMiddleware(echo, authorizer=AllowAll()),
            authenticators=[StaticTokens({"t": ALICE})],
            impersonation=True,
        )
    )
    headers = {"Authorization": "Bearer t"}
    assert (await Client(stack).request("GET", "/", headers)).status == 200
    response = await Client(stack).request("GET", "/", headers | {"Impersonate-User": "bob"})
    assert response.status == 500
    assert "authorization needs the word on whom the caller may act as" in response.json()["message"]


async def test_host_user_is_not_asked_again() -> None:
    """Behind impersonation, an authorization that takes its callers from elsewhere judges whom the caller acts as."""
    judge = Grants("impersonate users bob", "get  ")
    app = AuthorizationMiddleware(echo, authorizer=judge, identity=lambda exchange: ALICE)
    app = ImpersonationMiddleware(app, authorizer=judge, identity=lambda exchange: ALICE)  # type: ignore[assignment]
    response = await Client(RequestInfoMiddleware(app)).request("GET", "/", {"Impersonate-User": "bob"})
    assert judge.asked[-1].identity.user == "bob"
    assert response.status == 403


NAMES = st.sampled_from(
    (
        *("Impersonate-User", "Impersonate-Group", "Impersonate-Uid", "Impersonate-Extra-a", "impersonate_user"),
        *("Impersonate-Extra-%61", "IMPERSONATE-GROUP", "Impersonate.Group", "X-Remote-User", "Impersonate-", "Host"),
    )
)
VALUES = st.sampled_from(["alice", "bob", "system:masters", "", " system:masters", "ops", "a\tb", "\u2028x", "é"])


@given(st.lists(st.tuples(NAMES, VALUES), max_size=6), st.sets(st.sampled_from(["bob", "ops", "é"])))
async def test_nobody_becomes_what_was_not_granted(headers: list[tuple[str, str]], granted: set[str]) -> None:
    """Whatever headers come: every name and group of the result is the caller's own or was granted, or added by us."""

    class Some:
        async def authorize(self, attributes: Attributes) -> Verdict:
            assert attributes.identity == ALICE
            allowed = attributes.verb == "impersonate" and attributes.name in granted
            return Verdict(Outcome.ALLOW if allowed else Outcome.NO_OPINION)

    one = exchange(*headers)
    with suppress(StatusError):
        answer = await Impersonation(Some()).decide(one)
        assert answer is None or answer.status == 403
        if answer is None:
            _check(one, headers, granted)


def _check(one: Exchange, headers: list[tuple[str, str]], granted: set[str]) -> None:
    assert one.identity is not None
    if one.impersonator is None:
        assert one.identity is ALICE
        assert not any(fold(name.encode()).startswith(b"impersonate-") for name, _ in headers)
    else:
        values = {one.identity.user, one.identity.uid or "bob", *one.identity.groups, *one.identity.extra.get("a", ())}
        assert values <= granted | {"system:authenticated", "bob"}
        assert "bob" in granted or one.identity.user != "bob"
        assert not any(fold(name).startswith(b"impersonate-") for name, _ in one.headers)
