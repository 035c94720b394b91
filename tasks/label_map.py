"""The one translation between a data set's own category ids, contiguous class indices, and names."""

from typing import Self

from pydantic import BaseModel, ConfigDict, model_validator


class LabelMap(BaseModel):
    """Classes in index order; background is not one of them.

    Attributes:
        ids: raw category id of each class, as the annotation file has it.
        names: name of each class.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    ids: tuple[int, ...]
    names: tuple[str, ...]

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if len(self.ids) != len(self.names):
            raise ValueError(f"{len(self.ids)} ids for {len(self.names)} names")
        for what, values in (("id", self.ids), ("name", self.names)):
            twice = sorted({str(value) for value in values if values.count(value) > 1})
            if twice:
                raise ValueError(f"category {what} {', '.join(twice)} appears twice")
        return self

    def __len__(self) -> int:
        return len(self.ids)

    def __str__(self) -> str:
        shown = [f"{raw}={name}" for raw, name in zip(self.ids, self.names, strict=True)]
        return ", ".join(shown if len(shown) <= 10 else [*shown[:8], f"... {len(shown)} in all"])
