"""Functions of Kubernetes' environment, each with values that the documentation of cel-go or Kubernetes gives."""

from __future__ import annotations

from typing import Any

import pytest

from aggmw.objects.cel import CelCompileError, CelError, CelEvaluationError, compile  # noqa: A004


def value(expression: str, **values: Any) -> Any:
    return compile(expression, dict.fromkeys(values, "dyn")).evaluate(**values)


TRUE = """
'tacocat'.charAt(3) == 'o'
'hello mellow'.indexOf('ello') == 1
'hello mellow'.indexOf('ello', 2) == 7
'hello mellow'.indexOf('') == 0
'hello mellow'.lastIndexOf('ello') == 7
'hello mellow'.lastIndexOf('ello', 6) == 1
['hello', 'mellow'].join(' ') == 'hello mellow'
[].join() == ''
'TacoCÆt'.lowerAscii() == 'tacocÆt'
'TacoCÆt'.upperAscii() == 'TACOCÆT'
strings.quote('say "hi"\\n') == '"say \\\\"hi\\\\"\\\\n"'
'hello hello'.replace('he', 'we') == 'wello wello'
'hello hello'.replace('he', 'we', 1) == 'wello hello'
'hello hello'.replace('he', 'we', 0) == 'hello hello'
'hello hello hello'.split(' ') == ['hello', 'hello', 'hello']
'hello hello hello'.split(' ', 0) == []
'hello hello hello'.split(' ', 1) == ['hello hello hello']
'hello hello hello'.split(' ', 2) == ['hello', 'hello hello']
'abc'.split('') == ['a', 'b', 'c']
'tacocat'.substring(4) == 'cat'
'tacocat'.substring(0, 4) == 'taco'
'  \\ttrim\\n    '.trim() == 'trim'
'gums'.reverse() == 'smug'
'this is a string: %s\\nand an integer: %d'.format(['str', 42]) == 'this is a string: str\\nand an integer: 42'
'%%|%b|%o|%x|%X|%.2f|%e'.format([5, 8, 255, 255, 1.234, 1.5]) == '%|101|10|ff|FF|1.23|1.500000e+00'
'%s'.format([[1, 'a', true, null, 1.5, {'k': duration('1h')}]]) == '[1, a, true, null, 1.5, {k: 3600s}]'
'%x'.format(['hi']) == '6869'
'abc 123'.find('[0-9]+') == '123'
'abc'.find('[0-9]+') == ''
'123 abc 456'.findAll('[0-9]+') == ['123', '456']
'123 abc 456'.findAll('[0-9]+', 1) == ['123']
'abc'.matches('^[a-c]+$') && !'abcd'.matches('^[a-c]+$') && matches('xay', 'a')
[1, 2, 3].isSorted() && !['b', 'a'].isSorted()
[1, 3].sum() == 4 && [1.0, 3.0].sum() == 4.0 && [].sum() == 0
[duration('1m'), duration('1s')].sum() == duration('61s')
[1, 3].min() == 1 && [1, 3].max() == 3
[1, 2, 2, 3].indexOf(2) == 1 && [1, 2, 2, 3].lastIndexOf(2) == 2 && ['a'].indexOf('b') == -1
[1, 2, 3, 4].slice(1, 3) == [2, 3]
[1, 2, 2, 3, 3, 1].distinct() == [1, 2, 3]
[[1], [2, [3]]].flatten() == [1, 2, [3]] && [[1], [2, [3]]].flatten(2) == [1, 2, 3]
[5, 3, 1].sort() == [1, 3, 5] && [1, 2].reverse() == [2, 1] && lists.range(3) == [0, 1, 2]
sets.contains([1, 2, 3], [2, 3.0]) && !sets.contains([1], [2]) && sets.contains([], [])
sets.equivalent([1, 1], [1]) && !sets.equivalent([1], [1, 2])
sets.intersects([1, 2], [2, 3]) && !sets.intersects([1], [])
isURL('https://user:pass@example.com:80/path?query=val#fragment') && isURL('/absolute-path')
!isURL('https://a:b:c/') && !isURL('../relative-path') && !isURL('a b')
url('https://example.com:80/').getHost() == 'example.com:80' && url('https://[::1]:80/').getHostname() == '::1'
url('https://example.com:80/').getPort() == '80' && url('https://example.com/').getPort() == ''
url('https://example.com/with%20space').getEscapedPath() == '/with%20space'
url('https://example.com/path').getEscapedPath() == '/path' && url('/path').getScheme() == ''
url('https://example.com/p?k1=a&k2=b&k2=c').getQuery() == {'k1': ['a'], 'k2': ['b', 'c']}
isIP('192.168.0.1') && isIP('::1') && !isIP('192.168.0.256') && !isIP('::ffff:1.2.3.4') && !isIP('fe80::1%eth0')
ip('::1').family() == 6 && ip('127.0.0.1').isLoopback() && ip('0.0.0.0').isUnspecified()
ip('fe80::1').isLinkLocalUnicast() && ip('224.0.0.1').isLinkLocalMulticast() && ip('10.0.0.1').isGlobalUnicast()
!ip('255.255.255.255').isGlobalUnicast() && ip.isCanonical('2001:db8::abcd') && !ip.isCanonical('2001:DB8::ABCD')
isCIDR('192.168.0.0/24') && !isCIDR('192.168.0.0') && !isCIDR('192.168.0.0/33') && !isCIDR('10.0.0.0/08')
cidr('192.168.0.0/24').containsIP('192.168.0.7') && !cidr('192.168.0.0/24').containsIP(ip('::1'))
cidr('192.168.0.0/24').containsCIDR('192.168.0.0/25') && !cidr('192.168.0.0/24').containsCIDR(cidr('192.168.0.0/16'))
string(cidr('192.168.1.5/24').masked()) == '192.168.1.0/24' && cidr('10.0.0.1/8').ip() == ip('10.0.0.1')
cidr('10.0.0.0/8').prefixLength() == 8 && type(ip('::1')) != type(cidr('::/0'))
isQuantity('1.3Gi') && isQuantity('500m') && isQuantity('1e3') && !isQuantity('200K') && !isQuantity('Mi')
quantity('50k') == quantity('50000') && quantity('1Gi').asInteger() == 1073741824 && !quantity('50m').isInteger()
quantity('50k').add(20) == quantity('50020') && quantity('1').sub(quantity('500m')) == quantity('0.5')
quantity('200M').compareTo(quantity('0.2G')) == 0 && quantity('150Mi').isGreaterThan(quantity('100Mi'))
quantity('-1').sign() == -1 && quantity('1500m').asApproximateFloat() == 1.5
isSemver('1.0.0-rc.1+build') && !isSemver('v1.0') && isSemver('v1.0', true) && !isSemver('1.0.0-01')
semver('1.2.3').major() == 1 && semver('v01.01', true).compareTo(semver('1.1.0')) == 0
semver('1.0.0-alpha.2').isLessThan(semver('1.0.0-alpha.10')) && semver('1.0.0').isGreaterThan(semver('1.0.0-rc.1'))
timestamp('2001-02-03T04:05:06.5+01:00') == timestamp('2001-02-03T03:05:06.5Z')
timestamp('2001-02-03T04:05:06Z').getMonth() == 1 && timestamp('2001-02-03T04:05:06Z').getDate() == 3
timestamp('2001-02-03T04:05:06Z').getDayOfWeek() == 6 && timestamp('2001-02-03T04:05:06Z').getDayOfYear() == 33
timestamp('2001-02-03T23:05:06Z').getHours('+02:00') == 1
string(timestamp('2001-02-03T04:05:06.5Z')) == '2001-02-03T04:05:06.5Z' && string(duration('1h30m')) == '5400s'
timestamp('2001-02-03T04:05:06Z') - timestamp('2001-02-03T03:05:06Z') == duration('60m')
timestamp('2001-02-03T04:05:06Z') + duration('1h') > timestamp('2001-02-03T04:05:06Z')
duration('-1.5h').getMinutes() == -90 && duration('1500ms').getSeconds() == 1 && duration('0') == duration('0s')
timestamp(0) == timestamp('1970-01-01T00:00:00Z') && int(timestamp('1970-01-01T00:01:00Z')) == 60
int('-7') == -7 && int(3.99) == 3 && uint('7') == 7u && double('1.5') == 1.5 && string(1.0) == '1' && string(1e21) != ''
bool('true') && !bool('0') && string(b'hi') == 'hi' && bytes('hi') == b'hi' && string(true) == 'true'
type(1) == int && type([]) == list && type(null) == null_type && type(type(1)) == type
7 / 2 == 3 && -7 / 2 == -3 && -7 % 2 == -1 && 7 % -2 == 1
1 < 1.5 && 2u > 1 && 3.0 >= 3u && dyn(1) == dyn(1.0) && dyn(1) != dyn('1') && dyn(true) != dyn(1)
optional.of(1).hasValue() && !optional.none().hasValue() && optional.none().orValue(5) == 5
optional.ofNonZeroValue('').or(optional.of('x')).value() == 'x'
{'a': {'b': 1}}.?a.b.orValue(0) == 1 && {'a': {'b': 1}}.?x.b.orValue(0) == 0
[1, 2][?5].orValue(7) == 7 && {'k': 'v'}[?'k'] == optional.of('v')
[?{'a': 1}.?a, ?{'a': 1}.?b] == [1] && {?'x': {'a': 1}.?b, 'y': 2} == {'y': 2}
optional.of('a').optMap(x, x + 'b').value() == 'ab' && !optional.none().optMap(x, x).hasValue()
optional.of({'a': 1}).optFlatMap(m, m.?a).value() == 1
cel.bind(x, 5, x * x) == 25
[1, 2, 3].all(i, v, i < v) && {'a': 1}.exists(k, v, k == 'a' && v == 1)
[1, 2, 3].transformList(i, v, i > 0, v * 2) == [4, 6] && {'a': 1}.transformMap(k, v, v + 1) == {'a': 2}
{'a': 'x'}.transformMapEntry(k, v, {v: k}) == {'x': 'a'} && [1, 2].existsOne(i, v, v == 2)
[1, 2, 3].exists_one(x, x > 2) && [1, 2].map(x, x > 1, x * 10) == [20] && {'a': 1, 'b': 2}.map(k, k) == ['a', 'b']
has({'a': {'b': 1}}.a.b) && !has({}.a)
""".strip().splitlines()


@pytest.mark.parametrize("expression", TRUE)
def test_holds(expression: str) -> None:
    """Each line is true."""
    assert value(expression) is True


FAILING = """
'abc'.charAt(4)
'abc'.substring(2, 1)
[1, 'a'].min()
[].max()
[1, 2.0].sum()
[1, 2].slice(1, 5)
9223372036854775807 + 1
-9223372036854775807 - 2
9223372036854775807 * 2
-(-9223372036854775807 - 1)
0u - 1u
1 / 0
1 % 0
int('9223372036854775808')
int(1e300)
int('1_000')
uint(-1)
double('1_0')
bool('yes')
timestamp('2001-02-30T00:00:00Z')
timestamp('2001-02-03')
duration('1 hour')
duration('1e9h')
timestamp('9999-12-31T23:59:59Z') + duration('24h')
timestamp('2001-02-03T04:05:06Z').getHours('../../etc/passwd')
timestamp('2001-02-03T04:05:06Z').getHours('Nowhere/Land')
string(b'\\xff')
'x'.matches(dyn('('))
'x'.matches(dyn('(?<=a)b'))
optional.none().value()
url('not a url').getHost()
ip('1.2.3')
cidr('1.2.3.4')
quantity('x')
quantity('1.5').asInteger()
semver('1')
'%d'.format(['x'])
'%s'.format([])
'%q'.format(['x'])
{'a': 1}.b
[1][1]
[1][-1]
dyn(1).a
dyn('a') + dyn(1)
dyn(1) in dyn(1)
dyn(1) ? 1 : 2
dyn(1) && true
[1].all(x, dyn(x))
dyn(1).map(x, x)
{dyn(1.5): 1}
{'a': 1, 'a': 2}
[?dyn(1)]
""".strip().splitlines()


@pytest.mark.parametrize("expression", FAILING)
def test_has_no_value(expression: str) -> None:
    """An error with its place, never another exception and never a value."""
    with pytest.raises(CelEvaluationError) as caught:
        value(expression)
    assert (caught.value.line, caught.value.column > 0) == (1, True)


WRONG = {
    "": "1:1: Syntax error: the end is not expected here",
    "a +": "1:4: Syntax error: the end is not expected here",
    "1 +\n  foo": "2:3: undeclared reference to 'foo'",
    "foo(1)": "1:1: undeclared reference to 'foo'",
    "a.foo()": "1:2: undeclared reference to 'foo'",
    "1 + 'a'": "1:3: found no matching overload for '_+_' applied to '(int, string)'",
    "[1] == ['a']": "1:5: found no matching overload for '_==_' applied to '(list(int), list(string))'",
    "1 == 'a'": "1:3: found no matching overload for '_==_' applied to '(int, string)'",
    "1 && true": "1:1: found no matching overload for '_&&_' applied to '(int)': expected bool",
    "'a'.b": "1:4: type 'string' does not support field selection",
    "user.name": "1:5: undefined field 'name' of kubernetes.UserInfo",
    "{1.5: 1}": "1:2: unsupported key type 'double'",
    "1.map(x, x)": "1:1: expression of type 'int' cannot be range of a comprehension (must be list or map)",
    "[1].map(1, 2)": "1:9: argument of map() is not an identifier",
    "[1].all(x, x, x > 0)": "1:12: the variables of all() have the same name",
    "has(a)": "1:5: invalid argument to has() macro: a field is expected, as in has(a.b)",
    "'abc": "1:1: a string has no end: ' is missing",
    r"'\q'": r"1:2: no such escape in a string: \q",
    "9223372036854775808": "1:1: the number is too large",
    "a # b": "1:3: token recognition error at '#'",
    "if": "1:1: reserved identifier: if",
    "'x'.matches('(')": "1:13: not a regular expression: missing )",
    "matches('x', '[')": "1:14: not a regular expression: missing ]",
    "Foo{}": "1:1: undeclared reference to 'Foo': there are no messages",
    "(" * 200 + ")" * 200: "1:101: the expression has more than 100 levels",
    "a" + " + a" * 200: "1:399: the expression has more than 100 levels",
    "'" + "x" * 70_000 + "'": "1:1: the expression has more than 65536 characters",
    "a.in": "1:3: Syntax error: 'in' is not expected here, a field is expected",
    "[1, 2": "1:6: Syntax error: the end is not expected here, ']' is expected",
}


@pytest.mark.parametrize("expression", WRONG, ids=lambda each: each[:20])
def test_mistakes_have_their_place(expression: str) -> None:
    """Line and column, and what is wrong."""
    from aggmw.objects.cel import object_of

    user = object_of("kubernetes.UserInfo", {"username": "string"})
    with pytest.raises(CelCompileError) as caught:
        compile(expression, {"a": "dyn", "user": user})
    assert str(caught.value) == WRONG[expression]


def test_all_mistakes_at_once() -> None:
    """In the order of their places."""
    with pytest.raises(CelCompileError) as caught:
        compile("foo + bar\n+ (1 + 'a')", {})
    assert [(each.line, each.column) for each in caught.value.mistakes] == [(1, 1), (1, 7), (2, 6)]


def test_results_are_checked_when_compiled() -> None:
    """What a rule must give is known before any request: dyn is not enough where a bool is wanted."""
    claims = {"claims": "map(string, dyn)"}
    assert str(compile("claims.a == 1", claims, result=["bool"]).type) == "bool"
    for expression in ("claims.a", "1"):
        with pytest.raises(CelCompileError, match="must evaluate to bool"):
            compile(expression, claims, result=["bool"])
    with pytest.raises(CelCompileError, match=r"must evaluate to string or list\(string\), not to int"):
        compile("1", {}, result=["string", "list(string)"])


def test_variables_must_all_be_given() -> None:
    """A missing one is a mistake of the program, not of the expression."""
    program = compile("a", {"a": "dyn", "b": "dyn"})
    with pytest.raises(TypeError, match="needs a value for b"):
        program.evaluate(a=1)
    with pytest.raises(TypeError, match="no value of CEL"):
        program.evaluate(a=object(), b=1)


def test_values_of_other_python_types() -> None:
    """Tuples and read-only mappings, as identities have them."""
    from types import MappingProxyType

    assert value("g.size() == 2 && e.k == ['v']", g=("a", "b"), e=MappingProxyType({"k": ("v",)})) is True


def test_errors_show_no_value() -> None:
    """Security: what is evaluated may be secret; what is wrong with it is said by its type."""
    secret = "t0p-secret"
    for expression in (
        "a + 1",
        "int(a)",
        "a.b",
        "timestamp(a)",
        "a in a",
        "{}[a]",
        "a.matches('(' + a)",
        "url(a + ' ')",
    ):
        with pytest.raises(CelError) as caught:
            value(expression, a=secret)
        assert secret not in str(caught.value)


@pytest.mark.parametrize("function", ["matches", "find", "findAll"])
def test_half_a_pair_of_surrogates(function: str) -> None:
    """JSON can say it and UTF-8 cannot: for a regular expression it is one character, as in Go, in text and pattern."""
    found = {"matches": True, "find": "\ufffdb", "findAll": ["\ufffdb"]}[function]
    assert value(f"a.{function}(p)", a="a\ud800b", p="[^a]b$") == found
    assert value(f"a.{function}(p)", a="a\ud800b", p="\udfffb") == found
