"""Choose rows by an expression over their columns: ``--where "site == 'A' and age >= 18"``.

The expression is parsed here and never run as Python.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.datasets.tables.cells import did_you_mean, named
from probe.errors import UsageError

MOST_LENGTH, MOST_DEPTH = 10_000, 50
EXAMPLE = "for example --where \"site == 'A' and age >= 18\""
_TOKEN = re.compile(
    r"""\s*(?:
        (?P<text>'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")
      | `(?P<column>[^`]+)`
      | (?P<number>[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?(?![\w.]))
      | (?P<name>[^\W\d]\w*)
      | (?P<sign>==|!=|<=|>=|<>|<|>|[()\[\],]|&&?|\|\|?|!|=|.)
    )""",
    re.VERBOSE | re.DOTALL,
)
_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "==": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le, ">": operator.gt,
    ">=": operator.ge,
}  # fmt: skip
_INSTEAD = {"=": "==", "<>": "!=", "&": "and", "&&": "and", "|": "or", "||": "or", "!": "not"}
_WORDS = ("and", "or", "not", "in")
Mask = NDArray[np.bool_]


def rows_where(expression: str, columns: Mapping[str, Sequence[str]], count: int) -> Mask:
    """Return which rows an expression is true of, (count,).

    Comparisons (``== != < <= > >= in``, ``not in``) of columns with texts in quotes, numbers and
    columns, joined by ``and``, ``or``, ``not`` and parentheses. A column is written as it is
    called, in backticks where its name has blanks or signs. A column is compared with a number as
    numbers: a cell that is none equals none, and is neither less nor greater. With a text in
    quotes it is compared as text, but by ``<`` and ``>`` as numbers where both are.

    Parameters
    ----------
    expression : str
    columns : mapping of name to sequence of str
        ``count`` cells each.

    Raises
    ------
    UsageError
        The expression cannot be parsed, or names a column that is not there.
    """
    if len(expression) > MOST_LENGTH:
        raise UsageError(
            f"--where has {len(expression):,} characters; give at most {MOST_LENGTH:,}"
        )
    return _Parser(expression, columns, count).parsed()


@dataclass(frozen=True)
class _Token:
    kind: str
    text: str
    start: int


@dataclass(frozen=True)
class _Value:
    """What is compared: the cells of a column, or the same text or number in all rows."""

    cells: Sequence[str] | None
    text: str = ""
    number: float | None = None
    quoted: bool = False


class _Parser:
    """Reads an expression from left to right, and keeps the rows that each part is true of."""

    def __init__(self, expression: str, columns: Mapping[str, Sequence[str]], count: int) -> None:
        self._expression, self._columns, self._count = expression, columns, count
        self._numbers: dict[int, list[float | None]] = {}
        self._tokens = self._read()
        self._at, self._depth = 0, 0

    def parsed(self) -> Mask:
        if len(self._tokens) == 1:
            raise UsageError(f"--where is empty; give a comparison, {EXAMPLE}")
        found = self._any()
        if self._now.kind != "end":
            raise self._wrong()
        return found

    def _read(self) -> list[_Token]:
        tokens, place = [], 0
        text = self._expression
        while text[place:].strip():
            match = _TOKEN.match(text, place)
            assert match is not None, "the last form takes any sign"
            kind = str(match.lastgroup)
            found = match[kind]
            start = match.start(kind)
            if kind == "name" and found.lower() in _WORDS:
                kind, found = "word", found.lower()
            if kind == "sign" and found in _INSTEAD:
                raise self._error(start, f"{found!r} is written {_INSTEAD[found]!r} here")
            if kind == "sign" and found in "'\"`":
                raise self._error(start, f"the {found} does not close")
            tokens.append(_Token(kind, found, start))
            place = match.end()
        return [*tokens, _Token("end", "", len(text))]

    @property
    def _now(self) -> _Token:
        return self._tokens[self._at]

    def _takes(self, *texts: str) -> bool:
        """Step over a word or sign where it is the next one."""
        found = self._now.kind in {"word", "sign"} and self._now.text in texts
        self._at += found
        return found

    def _any(self) -> Mask:
        found = self._all()
        while self._takes("or"):
            found = found | self._all()
        return found

    def _all(self) -> Mask:
        found = self._one()
        while self._takes("and"):
            found = found & self._one()
        return found

    def _one(self) -> Mask:
        """Read ``not ...``, ``(...)`` or a comparison."""
        self._depth += 1
        if self._depth > MOST_DEPTH:
            raise UsageError(f"--where is nested deeper than {MOST_DEPTH}; write it more simply")
        if self._takes("not"):
            found = ~self._one()
        elif self._takes("("):
            found = self._any()
            if not self._takes(")"):
                raise self._wrong()
        else:
            found = self._comparison()
        self._depth -= 1
        return found

    def _comparison(self) -> Mask:
        left, found = self._value(), np.ones(self._count, bool)
        compared = False
        while True:
            sign = self._now
            if self._takes(*_COMPARE):
                right = self._value()
                found &= self._compared(left, sign.text, right, sign.start)
                left, compared = right, True
                continue
            if not compared and (self._takes("in") or (self._takes("not") and self._needs_in())):
                inside = self._inside(left, sign.start)
                return ~inside if sign.text == "not" else inside
            if not compared:
                raise self._wrong()
            return found

    def _needs_in(self) -> bool:
        if not self._takes("in"):
            raise self._wrong()
        return True

    def _inside(self, left: _Value, start: int) -> Mask:
        """Read the list after ``in``."""
        if not self._takes("(", "["):
            raise self._wrong("is no list; write for example site in ('A', 'B')")
        found = np.zeros(self._count, bool)
        while not self._takes(")", "]"):
            found |= self._compared(left, "==", self._value(), start)
            if not self._takes(",") and self._now.text not in {")", "]"}:
                raise self._wrong()
        return found

    def _value(self) -> _Value:
        token = self._now
        self._at += 1
        if token.kind == "number":
            return _Value(None, token.text, float(token.text))
        if token.kind == "text":
            return _Value(None, re.sub(r"\\(.)", r"\1", token.text[1:-1]), quoted=True)
        if token.kind in {"name", "column"}:
            return _Value(self._cells(token))
        self._at -= 1
        raise self._wrong()

    def _cells(self, token: _Token) -> Sequence[str]:
        if token.text in self._columns:
            return self._columns[token.text]
        folded = token.text.strip().casefold()
        found = [name for name in self._columns if name.casefold() == folded]
        if len(found) == 1:
            return self._columns[found[0]]
        hint = did_you_mean(token.text, self._columns)
        if not hint and token.kind == "name":
            hint = f"; a text is in quotes, '{token.text}'"
        raise self._error(
            token.start,
            f"there is no column {token.text!r}, there are {named(list(self._columns))}{hint}",
        )

    def _compared(self, left: _Value, sign: str, right: _Value, start: int) -> Mask:
        if left.cells is None and right.cells is None:
            left, right = self._with_column(left, right, start)
        test = _COMPARE[sign]
        if left.number is not None or right.number is not None:  # a number in the expression
            return self._as_numbers(left, right, test, sign)
        pairs = zip(self._texts(left), self._texts(right), strict=True)
        texts = np.fromiter((test(*pair) for pair in pairs), bool, self._count)
        both = left.cells is not None and right.cells is not None
        if sign in {"==", "!="} and not both:
            return texts
        numbers = zip(self._floats(left), self._floats(right), strict=True)
        rows = [row for row, (a, b) in enumerate(numbers) if a is not None and b is not None]
        if rows:
            as_numbers = self._as_numbers(left, right, test, sign)
            texts[rows] = as_numbers[rows]
        return texts

    def _as_numbers(
        self, left: _Value, right: _Value, test: Callable[[Any, Any], bool], sign: str
    ) -> Mask:
        pairs = zip(self._floats(left), self._floats(right), strict=True)
        missing = sign == "!="
        return np.fromiter(
            (missing if a is None or b is None else test(a, b) for a, b in pairs), bool, self._count
        )

    def _with_column(self, left: _Value, right: _Value, start: int) -> tuple[_Value, _Value]:
        """Read a text in quotes as a column where neither side is one."""
        if left.quoted and left.text in self._columns:
            return _Value(self._columns[left.text]), right
        if right.quoted and right.text in self._columns:
            return left, _Value(self._columns[right.text])
        raise self._error(
            start, f"neither side is a column, there are {named(list(self._columns))}"
        )

    def _texts(self, value: _Value) -> Sequence[str]:
        return [value.text] * self._count if value.cells is None else value.cells

    def _floats(self, value: _Value) -> list[float | None]:
        if value.cells is None:
            number = _float(value.text) if value.number is None else value.number
            return [number] * self._count
        key = id(value.cells)
        if key not in self._numbers:
            self._numbers[key] = [_float(cell) for cell in value.cells]
        return self._numbers[key]

    def _wrong(self, what: str = "is not expected there") -> UsageError:
        token = self._now
        if token.kind == "end":
            return self._error(token.start, "it ends too early")
        before = self._tokens[self._at - 1].kind if self._at else ""
        hint = " (a name with blanks or signs goes into `backticks`)" if before == "name" else ""
        return self._error(token.start, f"{token.text!r:.40} {what}{hint}")

    def _error(self, start: int, what: str) -> UsageError:
        return UsageError(
            f"--where {self._expression!r:.200}, character {start + 1}: {what}; {EXAMPLE}"
        )


def _float(text: str) -> float | None:
    try:
        found = float(text)
    except ValueError:
        return None
    return None if np.isnan(found) or "_" in text else found
