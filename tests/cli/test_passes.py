"""A pass that is shown: what it says of entries that it finds."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from probe.cache.store import Store
from probe.extraction.request import Request, prepare
from probe.screen.passes import run_pass


def test_an_entry_that_another_process_wrote_meanwhile_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = Request(
        backbone="squeezenet1_1", dataset="digits", weights="random:0", size=32, limit=3,
        cache_dir=tmp_path,
    )  # fmt: skip
    prepared, store, others = prepare(request), Store(tmp_path), []
    lock = Store.lock

    @contextmanager
    def late(self: Store, *args: Any, **named: Any) -> Iterator[None]:
        if not others:  # another process has the lock first, and writes the entry
            others.append(None)
            others.append(run_pass(prepared, Store(tmp_path)))
        with lock(self, *args, **named):
            yield

    monkeypatch.setattr(Store, "lock", late)
    mine = run_pass(prepared, store)
    _, theirs = others
    assert (theirs.found, theirs.forwarded) == (False, 3)
    assert (mine.found, mine.forwarded) == (True, 0)
    assert [one.path for one in mine.entries] == [one.path for one in theirs.entries]
    assert run_pass(prepared, store).found
