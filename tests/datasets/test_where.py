"""``--where``: which rows an expression takes, compared with Python's own answer."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from probe.datasets.tables.where import MOST_DEPTH, rows_where
from probe.errors import UsageError

COLUMNS = {
    "site": ["A", "B", "A", "C", ""],
    "age": ["3", "12.0", "", "n/a", "-1e1"],
    "other age": ["3.0", "9", "1", "2", "-10"],
    "code": ["007", "7", "7.0", "x", ""],
    "in": ["1", "0", "1", "0", "1"],
}


def taken(expression: str) -> list[int]:
    return [row for row, one in enumerate(rows_where(expression, COLUMNS, 5)) if one]


TAKES = {
    "site == 'A'": [0, 2],
    'site == "A"': [0, 2],
    "SITE == 'A' or Site == 'C'": [0, 2, 3],
    "site != 'A'": [1, 3, 4],
    "site in ('A', 'C')": [0, 2, 3],
    "site in ['C',]": [3],
    "site not in ('A', 'C')": [1, 4],
    "site in ()": [],
    "not site == 'A'": [1, 3, 4],
    "not not site == 'A'": [0, 2],
    "site == ''": [4],
    "'A' == site": [0, 2],
    "age == 12": [1],
    "age > 2": [0, 1],
    "age < 1e3": [0, 1, 4],
    "age >= -10.0": [0, 1, 4],
    "not age > 2": [2, 3, 4],
    "age != 3": [1, 2, 3, 4],
    "age in (3, -10)": [0, 4],
    "0 < age <= 12": [0, 1],
    "age > '4'": [1, 3],  # where both are numbers as such; otherwise as text
    "age == `other age`": [0, 4],
    "age < `other age`": [2],  # nothing is less, as text
    "age > 'm'": [3],
    "age > 'other age'": [],  # a text, since `age` is the column of that comparison
    "`other age` < 5": [0, 2, 3, 4],
    "'other age' < 5": [0, 2, 3, 4],
    "code == '7'": [1],
    "code == 7": [0, 1, 2],
    "`in` == '1' and site == 'A'": [0, 2],
    "site == 'A' or site == 'B' and age == 0": [0, 2],
    "(site == 'A' or site == 'B') and age == 12": [1],
    "site == 'it\\'s'": [],
    " site=='A'and(age<4) ": [0],
    "site == 'A' AND NOT age == 3": [2],
}


@pytest.mark.parametrize("expression", TAKES)
def test_an_expression(expression: str) -> None:
    assert taken(expression) == TAKES[expression]


WRONG = {
    "": "is empty",
    "   ": "is empty",
    "site": "it ends too early",
    "site == ": "it ends too early",
    "site = 'A'": "'=' is written '==' here",
    "site == 'A' & age > 3": "'&' is written 'and' here",
    "site <> 'A'": "'<>' is written '!=' here",
    "!(site == 'A')": "'!' is written 'not' here",
    "site == A": "there is no column 'A', there are site, age, other age, code, in; a text is in "
    "quotes, 'A'",
    "place == 'A'": "there is no column 'place'",
    "sit == 'A'": "there is no column 'sit', there are .*; did you mean `site`",
    "`place` == 'A'": "there is no column 'place'",
    "site == 'A": "character 9: the ' does not close",
    "`site == 'A'": "the ` does not close",
    "(site == 'A'": "it ends too early",
    "site == 'A')": r"'\)' is not expected there",
    "site in 'A'": "is no list; write for example site in",
    "site in ('A' 'B')": "'B'\" is not expected there",
    "site not 'A'": "is not expected there",
    "other age == 3": "there is no column 'other'",
    "site-id == 3": "'-' is not expected there .a name with blanks or signs goes into `backticks`",
    "'A' == 'B'": "neither side is a column",
    "1 == 1": "neither side is a column",
    "site.upper() == 'A'": r"'\.' is not expected",
    "__import__('os').system('touch x') == 0": "there is no column '__import__'",
    "site == 'A'; age > 3": "';' is not expected",
    "site == 'A' if age else 3": "'if' is not expected",
    "lambda: site == 1": "there is no column 'lambda'",
    "(" * 200 + "site == 'A'" + ")" * 200: f"nested deeper than {MOST_DEPTH}",
    "not " * 2000 + "site == 'A'": f"nested deeper than {MOST_DEPTH}",
    "site == 'A' or " * 1000 + "site == 'A'": "give at most 10,000",
}


@pytest.mark.parametrize("expression", WRONG, ids=lambda text: text[:30])
def test_a_wrong_expression_is_one_clear_line(expression: str) -> None:
    with pytest.raises(UsageError, match=WRONG[expression]) as raised:
        rows_where(expression, COLUMNS, 5)
    assert "\n" not in str(raised.value)
    assert str(raised.value).startswith("--where")
    assert len(str(raised.value)) < 600


NUMBERS = {"a": ["1", "2", "3", "4", "5"], "b": ["5", "4", "3", "2", "1"]}
COMPARISONS = st.builds(
    lambda left, sign, right: f"{left} {sign} {right}",
    st.sampled_from(["a", "b"]), st.sampled_from(["==", "!=", "<", "<=", ">", ">="]),
    st.sampled_from(["a", "b", "1", "3", "4.5", "-2"]),
) | st.builds(
    lambda left, sign, items: f"{left} {sign} ({', '.join(map(str, items))},)",
    st.sampled_from(["a", "b"]), st.sampled_from(["in", "not in"]),
    st.lists(st.integers(0, 6), min_size=1, max_size=3),
)  # fmt: skip
EXPRESSIONS = st.recursive(
    COMPARISONS,
    lambda inner: st.builds(
        lambda left, word, right: f"{left} {word} {right}",
        inner, st.sampled_from(["and", "or"]), inner,
    ) | inner.map("({})".format) | inner.map("not {}".format),
    max_leaves=8,
)  # fmt: skip


@given(EXPRESSIONS)
def test_an_expression_of_numbers_takes_what_python_takes(expression: str) -> None:
    found = rows_where(expression, NUMBERS, 5).tolist()
    rows = [{name: int(cells[row]) for name, cells in NUMBERS.items()} for row in range(5)]
    assert found == [bool(eval(expression, {}, row)) for row in rows]


@given(st.text(alphabet="site ageAB0123456789.'\"`()[]<>=!&|,andornti\\\n\x00é\ud800", max_size=60))
@example("site == 'A'")
def test_any_text_is_read_or_refused(expression: str) -> None:
    said, found = "", np.zeros(5, bool)
    try:
        found = rows_where(expression, COLUMNS, 5)
    except UsageError as error:
        said = str(error)
    assert "\n" not in said
    assert found.shape == (5,)
