"""A training's course reads back; a promoted run's further columns are left out."""

from __future__ import annotations

from pathlib import Path

import pytest

from probe.errors import DataError
from probe.heads.history import FILE_NAME, Epoch, load_history, save_history


def test_it_reads_back_exactly_and_gaps_stay_gaps(tmp_path: Path) -> None:
    history = [
        Epoch(epoch=1, train_loss=0.1 + 0.2, train_top1=1 / 3, lr=1e-3, seconds=0.5),
        Epoch(epoch=2, train_loss=0.1, train_top1=0.5, val_loss=0.0, val_top1=0.0, seconds=0.25),
    ]
    assert load_history(tmp_path) == []
    save_history(tmp_path, history)
    assert load_history(tmp_path) == history
    first = (tmp_path / FILE_NAME).read_text().splitlines()[0]
    assert first.startswith("epoch,train_loss,train_top1,val_loss,val_top1")


def test_columns_of_others_are_left_out_and_rubbish_is_refused(tmp_path: Path) -> None:
    path = tmp_path / FILE_NAME
    path.write_text("epoch,train_loss,train_top1,val_loss,val_top1,stage\n1,2.0,0.5,,,warm-up\n")
    assert load_history(tmp_path) == [Epoch(epoch=1, train_loss=2.0, train_top1=0.5)]
    for text in ("epoch,train_loss\n1,2\n", "epoch,train_loss,train_top1\n1,x,2\n", "\x00\n\x00"):
        path.write_text(text)
        with pytest.raises(DataError, match="not a training history"):
            load_history(tmp_path)
