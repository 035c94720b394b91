"""Many strings in two flat arrays, for the same reason as the annotations: no Python object for each."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tasks.data.segments import gather_ragged


@dataclass(frozen=True, slots=True, eq=False)
class Names:
    """A sequence of strings.

    Attributes:
        letters: uint8, the UTF-8 bytes of all strings, one after another. Bytes of a file name that are no UTF-8, which
            Python keeps as lone surrogates, pass through.
        ends: (N + 1,) int64, where each begins and ends.
    """

    letters: Tensor
    ends: Tensor

    @classmethod
    def pack(cls, names: Iterable[str]) -> Self:
        """From any strings."""
        encoded = [name.encode("utf-8", "surrogatepass") for name in names]
        ends = np.concatenate([[0], np.cumsum([len(name) for name in encoded], dtype=np.int64)])
        letters = np.frombuffer(b"".join(encoded), np.uint8).copy()
        return cls(torch.from_numpy(letters), torch.from_numpy(ends.astype(np.int64)))

    def __len__(self) -> int:
        return len(self.ends) - 1

    def __getitem__(self, index: int) -> str:
        start, end = self.ends[index : index + 2].tolist()
        return bytes(self.letters[start:end].numpy()).decode("utf-8", "surrogatepass")

    def __iter__(self) -> Iterator[str]:
        return (self[index] for index in range(len(self)))

    def select(self, indices: npt.NDArray[np.int64]) -> Self:
        """Those at `indices`, in that order."""
        ends, letters = gather_ragged(self.ends.numpy(), indices)
        return type(self)(self.letters[letters], torch.from_numpy(ends))

    @property
    def nbytes(self) -> int:
        """Bytes of both arrays together."""
        return self.letters.nbytes + self.ends.nbytes
