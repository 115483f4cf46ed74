"""Where policies come from: rows of Python code, casbin's adapters, and a database that is really there."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any
from weakref import ref

import casbin
import pytest
from casbin import persist
from casbin.persist.adapters.asyncio import AsyncFileAdapter
from casbin_async_sqlalchemy_adapter import Adapter, CasbinRule
from sqlalchemy import Column, Integer, String
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.orm import declarative_base
from sqlalchemy.pool import NullPool

from aggmw.contracts.authorization import Attributes, Outcome, Verdict
from aggmw.errors import CompositionError, ConfigurationError
from aggmw.middleware.authorization import CasbinAuthorizer, RbacAuthorizer

ALICE = ("p", "user:alice", "get", "*", "*", "*", "*", "allow")
BOB = ("p", "user:bob", "get", "*", "*", "*", "*", "allow")
NOT_BOB = ("p", "user:bob", "get", "*", "secrets", "*", "*", "deny")
MODEL = """
[request_definition]
r = sub, obj, act
[policy_definition]
p = sub, obj, act
[policy_effect]
e = some(where (p.eft == allow))
[matchers]
m = r.sub == p.sub && r.act == p.act
"""


class Loading:
    """An adapter that gives what it has, or fails."""

    def __init__(self, *rows: Sequence[str], error: Exception | None = None) -> None:
        self.rows = list(rows)
        self.error = error

    def load_policy(self, model: Any) -> None:
        if self.error is not None:
            raise self.error
        for row in self.rows:
            persist.load_policy_line(", ".join(row), model)


class LoadingLater(Loading):
    """The same, to be awaited."""

    async def load_policy(self, model: Any) -> None:  # type: ignore[override]  # what makes the difference
        await asyncio.sleep(0)
        super().load_policy(model)


def mistakes(adapter: object, **options: Any) -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        CasbinAuthorizer.from_adapter(adapter, **options)
    return str(caught.value).splitlines()


# Rows


async def test_rows(outcome: Callable[..., Outcome]) -> None:
    """Rows as tuples are a policy; some come and others go, all at once."""
    authorizer = CasbinAuthorizer.from_rows([ALICE, ("g", "user:carl", "role:reader")])
    before = authorizer.revision
    assert outcome(authorizer, "alice", "get", "pods") is Outcome.ALLOW
    after = await authorizer.change(add=[BOB, NOT_BOB], remove=[ALICE])
    assert after == authorizer.revision != before
    assert outcome(authorizer, "alice", "get", "pods") is Outcome.NO_OPINION
    assert outcome(authorizer, "bob", "get", "pods") is Outcome.ALLOW
    assert outcome(authorizer, "bob", "get", "secrets") is Outcome.DENY
    assert await authorizer.change(add=[ALICE], remove=[BOB, NOT_BOB]) == before


async def test_broken_change_changes_nothing(outcome: Callable[..., Outcome]) -> None:
    """A batch with a mistake in it is refused as a whole, and so is one that removes what is not there."""
    authorizer = CasbinAuthorizer.from_rows([ALICE])
    with pytest.raises(ConfigurationError, match="rows row 1: has verb 'GET'"):
        await authorizer.change(add=[("p", "user:bob", "GET", "*", "*", "*", "*"), BOB], remove=[ALICE])
    with pytest.raises(ValueError, match="there is no row p, user:bob, get"):
        await authorizer.change(add=[NOT_BOB], remove=[BOB])
    assert outcome(authorizer, "alice", "get", "pods") is Outcome.ALLOW
    assert repr(authorizer) == f"CasbinAuthorizer('rows', 1 rows, revision {authorizer.revision})"
    assert [sample.value for sample in authorizer.samples() if sample.name.endswith("_stale")] == [0]


async def test_changes_at_once() -> None:
    """Batches of several tasks are all in force in the end."""
    authorizer = CasbinAuthorizer.from_rows([ALICE])
    names = [f"user:u{number}" for number in range(5)]
    await asyncio.gather(*(authorizer.change(add=[("p", name, *BOB[2:])]) for name in names))
    assert repr(authorizer).startswith("CasbinAuthorizer('rows', 6 rows")


async def test_refresh_beside_a_change(outcome: Callable[..., Outcome]) -> None:
    """A refresh that comes while rows are being changed does not bring back those that were taken out."""
    authorizer = CasbinAuthorizer.from_rows([ALICE])
    with authorizer._loading:  # both wait for their turn
        change = asyncio.create_task(authorizer.change(add=[BOB], remove=[ALICE]))
        await asyncio.sleep(0.05)
        refresh = asyncio.create_task(authorizer.refresh())
        await asyncio.sleep(0.05)
    await asyncio.gather(change, refresh)
    assert outcome(authorizer, "alice", "get", "pods") is Outcome.NO_OPINION
    assert outcome(authorizer, "bob", "get", "pods") is Outcome.ALLOW
    assert "user:alice" not in authorizer.mentioned()


@pytest.mark.parametrize("row", ["p, user:alice", (), ("p", 7), ("p", None)])
def test_rows_are_texts(row: Any) -> None:
    """What is no row is named at once."""
    with pytest.raises(TypeError, match="a row is several texts"):
        CasbinAuthorizer.from_rows([row])


def test_rows_are_looked_through_like_files() -> None:
    """The same mistakes, with the row's number in place of the line; and in their order."""
    bad = [*[ALICE] * 2, ("p", "alice"), *[ALICE] * 8, ("rule", "x"), ("p", "user:a\nb", *ALICE[2:])]
    with pytest.raises(ConfigurationError) as caught:
        CasbinAuthorizer.from_rows(bad)
    assert str(caught.value).splitlines() == [
        "rows row 3: has 1 column after p, and the model wants 6 or 7: subject, verb, apiGroup, resource, namespace,"
        " name, eft",
        "rows row 12: is of type 'rule', which the model does not define; known: g, p, p2",
        "rows row 13: holds a control character",
    ]


async def test_only_rows_are_changed() -> None:
    """A policy that is kept elsewhere is changed there."""
    authorizer = CasbinAuthorizer.from_text("")
    with pytest.raises(CompositionError, match="policy is changed where it is kept; then await refresh"):
        await authorizer.change(add=[ALICE])


# Adapters


async def test_adapter(outcome: Callable[..., Outcome]) -> None:
    """Whatever has `load_policy` is a source; it is asked again by each refresh."""
    adapter = Loading(ALICE)
    authorizer = CasbinAuthorizer.from_adapter(adapter)
    assert outcome(authorizer, "alice", "get", "pods") is Outcome.ALLOW
    assert outcome(authorizer, "bob", "get", "pods") is Outcome.NO_OPINION
    adapter.rows.append(BOB)
    assert await authorizer.refresh() == authorizer.revision
    assert outcome(authorizer, "bob", "get", "pods") is Outcome.ALLOW
    adapter.rows.clear()
    authorizer.reload()
    assert outcome(authorizer, "bob", "get", "pods") is Outcome.DENY


async def test_casbins_own_adapters(tmp_path: Path, outcome: Callable[..., Outcome]) -> None:
    """casbin's file adapters, both kinds, with a model of one's own: its text, or the path of its file."""
    (tmp_path / "policy.csv").write_text("p, alice, /x, get\n")
    (tmp_path / "model.conf").write_text(MODEL)
    one = CasbinAuthorizer.from_adapter(casbin.FileAdapter(str(tmp_path / "policy.csv")), model=MODEL)
    other = CasbinAuthorizer.from_adapter(
        AsyncFileAdapter(str(tmp_path / "policy.csv")), model=tmp_path / "model.conf", name="policy.csv"
    )
    assert await other.refresh() == one.revision
    assert outcome(one, "alice", "get", "pods") is Outcome.ALLOW
    assert outcome(other, "alice", "get", "pods") is Outcome.ALLOW
    assert outcome(other, "bob", "get", "pods") is Outcome.NO_OPINION


class Direct:
    """Fills the model in the other ways that adapters have."""

    def load_policy(self, model: Any) -> None:
        model.add_policy("p", "p", list(ALICE[1:]))
        model["g"]["g"].policy.extend([["user:carl", "role:r"]])
        model.model["p"]["p"].policy.append(tuple(BOB[1:]))
        model.add_policies("p", "p", [["user:dora", *ALICE[2:-1], "permit"]])


class Replaces:
    """Puts a list of its own in place of the one that is there."""

    def load_policy(self, model: Any) -> None:
        model["p"]["p"].policy = [list(ALICE[1:]), ["alice"]]


def test_rows_are_numbered_as_they_came() -> None:
    """Every way of filling a model is understood, and the order of all rows is kept."""
    assert mistakes(Direct()) == ["adapter row 4: has effect 'permit': write allow or deny"]
    assert mistakes(Replaces())[0].startswith("adapter row 2: has 1 column after p")


def test_no_row_is_left_out() -> None:
    """Rows that casbin's helper would drop without a word are mistakes: one of them could deny."""
    assert mistakes(Loading(ALICE, ("p3", "user:bob", "deny"), ("x", "y"), ("rule", "x")), name="the table") == [
        "the table row 2: is of type 'p3', which the model does not define; known: g, p, p2",
        "the table row 3: is of type 'x', which the model does not define; known: g, p, p2",
        "the table row 4: is of type 'rule', which the model does not define; known: g, p, p2",
    ]


def test_effect_is_written_out() -> None:
    """A table without a column for the effect would make an allowing rule of one that denies."""
    assert mistakes(Loading(ALICE[:-1], ("p2", "user:bob", "get", "/x"), ("g", "user:a", "role:b"))) == [
        "adapter row 1: has no EFFECT: write allow or deny; a table with too few columns would lose it",
        "adapter row 2: has no EFFECT: write allow or deny; a table with too few columns would lose it",
    ]


async def test_adapter_that_fails(outcome: Callable[..., Outcome]) -> None:
    """What an adapter raises is a mistake with its name; what was loaded stays in force."""
    adapter = Loading(ALICE)
    authorizer = CasbinAuthorizer.from_adapter(adapter, name="the table")
    adapter.error = OSError("connection refused\nand a second line")
    with pytest.raises(ConfigurationError) as caught:
        await authorizer.refresh()
    assert str(caught.value) == "the table: cannot be loaded: OSError: connection refused"
    assert outcome(authorizer, "alice", "get", "pods") is Outcome.ALLOW
    adapter.error = KeyError()
    with pytest.raises(ConfigurationError, match=r"^the table: cannot be loaded: KeyError$"):
        authorizer.reload()


@pytest.mark.parametrize("adapter", [object(), Loading, None, "policy.csv"])
def test_what_is_no_adapter(adapter: object) -> None:
    """Something else is refused when the authorizer is made."""
    with pytest.raises(TypeError, match="a casbin adapter is an object with a method load_policy"):
        CasbinAuthorizer.from_adapter(adapter)


class Deceptive(Loading):
    """Gives something to be awaited, and is no coroutine function."""

    def load_policy(self, model: Any) -> Any:
        return LoadingLater(*self.rows).load_policy(model)


def test_awaitable_of_a_plain_function() -> None:
    """What nobody would await is not taken for an empty policy."""
    assert mistakes(Deceptive(ALICE)) == [
        "adapter: load_policy() has to be awaited, and is no coroutine function: make it one"
    ]


# Adapters that are awaited


async def test_nothing_is_allowed_before_it_is_loaded(
    attributes: Callable[..., Attributes], decide: Callable[..., Verdict]
) -> None:
    """C4: until a revision is loaded there is no verdict, not even "no opinion": a 500, and not ready."""
    authorizer = CasbinAuthorizer.from_adapter(LoadingLater(ALICE))
    asked = attributes("alice", "get", "pods")
    assert repr(authorizer) == "CasbinAuthorizer('adapter', not loaded)"
    assert authorizer.revision == ""
    assert authorizer.warnings == ()
    unloaded = Verdict(Outcome.DENY, error="no policy is loaded yet")
    assert decide(authorizer, asked) == authorizer.verdict(asked) == unloaded
    assert (await authorizer.explain(asked)).verdict == unloaded
    assert (await authorizer.rules_for(asked.identity, "")).incomplete
    assert [check.check() for check in authorizer.checks] == ["no revision of adapter was loaded yet"]
    admin = attributes("root", "get", "pods", groups=("system:masters",))
    assert decide(authorizer, admin).allowed  # whom no policy is asked about
    await authorizer.refresh()
    assert decide(authorizer, asked).allowed
    assert [check.check() for check in authorizer.checks] == [None]


async def test_awaited_adapter_is_loaded_by_its_controller(
    attributes: Callable[..., Attributes], decide: Callable[..., Verdict]
) -> None:
    """The lifespan of a front proxy loads it."""
    authorizer = CasbinAuthorizer.from_adapter(LoadingLater(ALICE))
    for controller in authorizer.controllers:
        await controller.run()
    assert decide(authorizer, attributes("alice", "get", "pods")).allowed


async def test_awaited_adapter_is_not_read_by_reload() -> None:
    """`reload` cannot wait, and says so."""
    with pytest.raises(CompositionError, match=r"adapter has to be awaited: await authorizer\.refresh\(\)"):
        CasbinAuthorizer.from_adapter(LoadingLater(ALICE)).reload()


async def test_awaited_adapter_that_fails_or_hangs() -> None:
    """Both are mistakes; while one hangs, nobody waits for longer than the timeout."""
    broken = CasbinAuthorizer.from_adapter(LoadingLater(error=OSError("no such table")))
    with pytest.raises(ConfigurationError, match="adapter: cannot be loaded: OSError: no such table"):
        await broken.refresh()

    class Hangs:
        async def load_policy(self, model: Any) -> None:
            await asyncio.Event().wait()

    with pytest.raises(ConfigurationError, match=r"adapter: cannot be loaded: no answer within 0\.01 seconds"):
        await CasbinAuthorizer.from_adapter(Hangs(), timeout=0.01).refresh()


# A database

Base = declarative_base()


class Rule(Base):  # type: ignore[misc, valid-type]  # as SQLAlchemy makes it
    """A table with a column for everything that the model that ships has."""

    __tablename__ = "rules"
    id = Column(Integer, primary_key=True)
    ptype = Column(String(255))
    v0, v1, v2, v3, v4, v5, v6 = (Column(String(255)) for _ in range(7))

    def __str__(self) -> str:
        values = (self.ptype, self.v0, self.v1, self.v2, self.v3, self.v4, self.v5, self.v6)
        return ", ".join(value for value in values if value is not None)


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[AsyncEngine]:
    engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path / 'policy.db'}")
    yield engine
    await engine.dispose()


async def test_sqlalchemy(engine: AsyncEngine, outcome: Callable[..., Outcome]) -> None:
    """casbin's asynchronous SQLAlchemy adapter, on SQLite, with the model that ships: rules come and go."""
    adapter = Adapter(engine, Rule)
    await adapter.create_table()
    authorizer = CasbinAuthorizer.from_adapter(adapter, name="rules")
    await authorizer.refresh()
    assert outcome(authorizer, "alice", "get", "pods") is Outcome.DENY
    await adapter.add_policies("p", "p", [ALICE[1:], BOB[1:], NOT_BOB[1:]])
    await adapter.add_policy("g", "g", ["group:staff", "role:reader"])
    await adapter.add_policy("p", "p2", ["role:reader", "get", "/x", "allow"])
    await authorizer.refresh()
    assert outcome(authorizer, "alice", "get", "secrets") is Outcome.ALLOW
    assert outcome(authorizer, "bob", "get", "secrets") is Outcome.DENY
    assert outcome(authorizer, "carl", "get", "/x", groups=("staff",)) is Outcome.ALLOW
    with_all = authorizer.revision
    assert with_all == CasbinAuthorizer.from_rows(
        [("p2", "role:reader", "get", "/x", "allow"), ("g", "group:staff", "role:reader"), NOT_BOB, BOB, ALICE]
    ).revision  # fmt: skip
    await adapter.remove_policy("p", "p", ALICE[1:])
    await authorizer.refresh()
    assert outcome(authorizer, "alice", "get", "secrets") is Outcome.NO_OPINION
    await adapter.add_policy("p", "p", ["bob", *BOB[2:]])
    with pytest.raises(ConfigurationError, match=r"rules row [1-9]: has 'bob' as the subject"):
        await authorizer.refresh()
    assert outcome(authorizer, "bob", "get", "pods") is Outcome.ALLOW


async def test_sqlalchemy_with_the_table_that_ships(engine: AsyncEngine, outcome: Callable[..., Outcome]) -> None:
    """Its own table has six columns: enough for many models; of the one that ships, it loses the effect."""
    async with engine.begin() as connection:
        await connection.run_sync(CasbinRule.__table__.create)
    adapter = Adapter(engine)
    await adapter.add_policy("p", "p", ["alice", "/x", "get"])
    own = CasbinAuthorizer.from_adapter(adapter, model=MODEL)
    await own.refresh()
    assert outcome(own, "alice", "get", "pods") is Outcome.ALLOW
    await adapter.remove_policy("p", "p", ["alice", "/x", "get"])
    await adapter.add_policy("p", "p", list(NOT_BOB[1:]))  # it keeps six of seven
    with pytest.raises(ConfigurationError, match="adapter row 1: has no EFFECT"):
        await CasbinAuthorizer.from_adapter(adapter).refresh()


def test_other_authorizers_are_no_sources() -> None:
    """An authorizer is not taken for an adapter."""
    with pytest.raises(TypeError, match="adapter"):
        CasbinAuthorizer.from_adapter(RbacAuthorizer.from_objects([]))


async def test_awaited_adapter_in_a_thread(
    engine: AsyncEngine, tmp_path: Path, outcome: Callable[..., Outcome]
) -> None:
    """One that would keep the event loop busy is awaited on a loop of its own, beside this one."""
    adapter = Adapter(engine, Rule)
    await adapter.create_table()
    await adapter.add_policies("p", "p", [ALICE[1:]])
    await engine.dispose()
    engines = [create_async_engine(engine.url, poolclass=NullPool) for _ in range(2)]
    authorizer = CasbinAuthorizer.from_adapter(Adapter(engines[0], Rule), in_thread=True)
    assert await authorizer.refresh() == authorizer.revision
    assert outcome(authorizer, "alice", "get", "pods") is Outcome.ALLOW
    await Adapter(engines[1], Rule).add_policies("p", "p", [BOB[1:]])
    await authorizer.refresh()
    assert outcome(authorizer, "bob", "get", "pods") is Outcome.ALLOW

    class Where:
        async def load_policy(self, model: Any) -> None:
            self.loop = asyncio.get_running_loop()
            raise OSError("no such table")

    elsewhere = Where()
    with pytest.raises(ConfigurationError, match="adapter: cannot be loaded: OSError: no such table"):
        await CasbinAuthorizer.from_adapter(elsewhere, in_thread=True).refresh()
    assert elsewhere.loop is not asyncio.get_running_loop()


def test_what_an_adapter_leaves_is_collected() -> None:
    """Where policies are frozen, garbage in circles that an adapter made would be, too, and stay for ever."""

    class Circle:
        def __init__(self) -> None:
            self.itself = self

    class Wasteful(Loading):
        def load_policy(self, model: Any) -> None:
            waste.append(ref(Circle()))
            super().load_policy(model)

    waste: list[ref[Circle]] = []
    gc.freeze()
    try:
        CasbinAuthorizer.from_adapter(Wasteful(ALICE)).reload()
    finally:
        gc.unfreeze()
    assert [each() for each in waste] == [None, None]
