"""Filters and extractors of log-based metrics, applied to log lines as Cloud Logging would.

Of its query language: AND, OR, NOT and parentheses; ``=``, ``!=``, ``<``, ``<=``, ``>``, ``>=``, ``=~``,
``!~``; ``field:*`` for a field that is there; a parenthesis of values. Anything else is refused, so that a
filter which this cannot judge is noticed.
"""

import re
from collections.abc import Callable, Mapping

Entry = Mapping[str, object]
Test = Callable[[Entry], bool]

_TOKEN = re.compile(
    r"\s*(?:(?P<string>\"(?:[^\"\\]|\\.)*\")|(?P<operator>=~|!~|!=|<=|>=|[=<>:])|(?P<bracket>[()])"
    r"|(?P<word>[^\s()=<>!:\"]+))"
)
# What Cloud Run takes out of a line and puts elsewhere in the entry.
_TAKEN_OUT = {
    "severity": "severity",
    "timestamp": "timestamp",
    "logging.googleapis.com/trace": "trace",
}


def as_entry(line: Mapping[str, object], *, service_name: str) -> Entry:
    """The log entry that Cloud Logging makes of a line of a service on Cloud Run."""
    payload = {key: value for key, value in line.items() if key not in _TAKEN_OUT}
    moved = {_TAKEN_OUT[key]: value for key, value in line.items() if key in _TAKEN_OUT}
    resource = {"type": "cloud_run_revision", "labels": {"service_name": service_name}}
    return {**moved, "jsonPayload": payload, "resource": resource}


def extract(extractor: str, entry: Entry) -> object:
    """What ``EXTRACT(field)`` takes out of an entry; None if it is not there."""
    found = re.fullmatch(r"EXTRACT\(([\w.]+)\)", extractor)
    assert found, f"not understood: {extractor}"
    return _field(found[1], entry)


def parse(query: str) -> Test:
    tokens, place = [], 0
    query = query.strip()
    while place < len(query):
        match = _TOKEN.match(query, place)
        assert match, f"not understood: {query[place:]}"
        tokens.append((match.lastgroup, match[match.lastgroup]))
        place = match.end()
    parser = _Parser(tokens)
    test = parser.disjunction()
    assert not parser.tokens, f"not understood: {parser.tokens}"
    return test


class _Parser:
    def __init__(self, tokens):
        self.tokens = tokens

    def disjunction(self) -> Test:
        tests = [self.conjunction()]
        while self._next_is("OR"):
            tests.append(self.conjunction())
        return lambda entry: any(test(entry) for test in tests)

    def conjunction(self) -> Test:
        tests = [self.term()]
        while self._next_is("AND"):
            tests.append(self.term())
        return lambda entry: all(test(entry) for test in tests)

    def term(self) -> Test:
        if self._next_is("NOT"):
            test = self.term()
            return lambda entry: not test(entry)
        if self._next_is("("):
            test = self.disjunction()
            assert self._next_is(")")
            return test
        return self.comparison()

    def comparison(self) -> Test:
        kind, path = self.tokens.pop(0)
        assert kind == "word", f"no field: {path}"
        kind, operator = self.tokens.pop(0)
        assert kind == "operator", f"no operator: {operator}"
        values = [self._value()] if not self._next_is("(") else self._values()
        if operator == ":":
            assert values == [("word", "*")], "only field:* is understood"
            return lambda entry: _field(path, entry) is not None
        return lambda entry: any(_holds(_field(path, entry), operator, value) for value in values)

    def _values(self):
        values = [self._value()]
        while self._next_is("OR"):
            values.append(self._value())
        assert self._next_is(")")
        return values

    def _value(self):
        kind, text = self.tokens.pop(0)
        assert kind in {"string", "word"}, f"no value: {text}"
        return (kind, re.sub(r"\\(.)", r"\1", text[1:-1]) if kind == "string" else text)

    def _next_is(self, text: str) -> bool:
        if self.tokens and self.tokens[0][1] == text and self.tokens[0][0] != "string":
            self.tokens.pop(0)
            return True
        return False


def _field(path: str, entry: Entry) -> object:
    found: object = entry
    for name in path.split("."):
        if not isinstance(found, Mapping) or name not in found:
            return None
        found = found[name]
    return found


def _holds(field: object, operator: str, value: tuple[str, str]) -> bool:
    if field is None:
        return False  # Nothing holds of what is not there.
    text = value[1]
    if operator in {"=~", "!~"}:
        return (re.search(text, str(field)) is not None) == (operator == "=~")
    if isinstance(field, int | float) and not isinstance(field, bool):
        left, right = float(field), float(text)
    else:
        left, right = str(field).lower(), text.lower()  # It does not heed case.
    return {
        "=": left == right,
        "!=": left != right,
        "<": left < right,
        "<=": left <= right,
        ">": left > right,
        ">=": left >= right,
    }[operator]
