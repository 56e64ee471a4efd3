"""Entries of random numbers, as large as a benchmark of the cache wants them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from probe.cache.checksum import SplitTable, encode_strings
from probe.cache.features import FeatureSet
from probe.cache.key import FeatureKey, digest_rows
from probe.cache.pending import Draft, PendingEntry
from probe.cache.store import Store

STEP = 1024  # rows a write


def toy_draft(rows: int, width: int) -> Draft:
    """Return what an entry of one split consists of before its rows."""
    content = np.random.default_rng(1).integers(0, 256, (rows, 16), dtype=np.uint8)
    table = SplitTable(
        labels=(np.arange(rows) % 10).astype(np.int32),
        ids=encode_strings(f"train/{row:08d}.jpg" for row in range(rows)),
        content=content,
    )
    key = FeatureKey(
        backbone="toy", layer="gap", pool="none", parameters=f"{rows}x{width}", preprocess="{}",
        rows=(("train", digest_rows(content)),),
    )  # fmt: skip
    return Draft(
        key=key, dataset="toy", tables={"train": table}, row_shape=(width,),
        classes=tuple("0123456789"), provenance={"dataset": "toy"},
    )  # fmt: skip


def fill(store: Store, draft: Draft, block: np.ndarray) -> FeatureSet:
    """Write all rows of an entry from one array of STEP rows, and publish it."""
    with store.lock(draft.key):
        pending = PendingEntry(store, draft)
        header, done = pending.writer.header, 0
        count = header.features["train"].shape[0]
        for start in range(0, count, len(block)):
            rows = np.arange(start, min(start + len(block), count))
            pending.writer.write("train", rows, block[: len(rows)])
            while done < header.block_count("train") and (
                header.block_slice("train", done).stop <= rows[-1] + 1
            ):
                pending.writer.finish_block("train", done)
                done += 1
        return pending.publish(seconds=0.0, forwarded=count)


def toy_entry(folder: Path, *, rows: int, width: int) -> FeatureSet:
    """Return an entry of random normal features."""
    block = np.random.default_rng(0).standard_normal((STEP, width), np.float32)
    return fill(Store(folder), toy_draft(rows, width), block)
