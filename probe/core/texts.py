"""Many texts in one block of memory, as the names of a million images.

A string of Python's takes 49 bytes beside its characters, and 8 more in a list.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import overload

import numpy as np
from numpy.typing import NDArray


class Texts(Sequence[str]):
    """Texts in a fixed order; equal to any sequence of the same texts.

    Parameters
    ----------
    data : bytes
        Their UTF-8, one after the other.
    ends : uint32 or uint64, (n,)
        Where each ends, in bytes.
    """

    __slots__ = ("_data", "_ends")

    def __init__(self, data: bytes, ends: NDArray[np.uint32] | NDArray[np.uint64]) -> None:
        self._data, self._ends = data, ends

    @classmethod
    def of(cls, texts: Iterable[str]) -> Texts:
        """Return the texts in their order; of `Texts` themselves."""
        if isinstance(texts, Texts):
            return texts
        data, lengths = bytearray(), []
        for one in texts:
            encoded = one.encode("utf-8", "surrogatepass")
            data += encoded
            lengths.append(len(encoded))
        ends = np.cumsum(np.array(lengths, np.uint64))
        return cls(bytes(data), ends if len(data) >= 2**32 else ends.astype(np.uint32))

    def __len__(self) -> int:
        return len(self._ends)

    @overload
    def __getitem__(self, row: int) -> str: ...
    @overload
    def __getitem__(self, row: slice) -> list[str]: ...
    def __getitem__(self, row: int | slice) -> str | list[str]:
        if isinstance(row, slice):
            return [self[one] for one in range(*row.indices(len(self)))]
        end = self._ends.item(row)  # IndexError where there is no such row
        before = row % len(self) - 1
        start = self._ends.item(before) if before >= 0 else 0
        return self._data[start:end].decode("utf-8", "surrogatepass")

    def __iter__(self) -> Iterator[str]:
        start = 0
        for end in self._ends:
            yield self._data[start : int(end)].decode("utf-8", "surrogatepass")
            start = int(end)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Texts):
            return self._data == other._data and np.array_equal(self._ends, other._ends)
        if not isinstance(other, Sequence) or isinstance(other, str):
            return NotImplemented
        return len(self) == len(other) and all(a == b for a, b in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]  # as of any sequence that may be a list

    def __repr__(self) -> str:
        shown = ", ".join(map(repr, self[:3]))
        return f"<{len(self):,} texts: {shown}{', ...' if len(self) > 3 else ''}>"


def taken_texts(texts: Sequence[str], rows: NDArray[np.intp]) -> Sequence[str]:
    """Return the texts of some rows, in that order, kept as the others are."""
    taken = (texts[row] for row in rows.tolist())
    return Texts.of(taken) if isinstance(texts, Texts) else list(taken)
