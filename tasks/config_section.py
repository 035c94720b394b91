"""Typed data shared by all parts of a config. Imports nothing heavy, so that `--help` answers at once."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1)]
Momentum = Annotated[float, Field(ge=0, lt=1)]
Count = Annotated[int, Field(ge=1)]
Natural = Annotated[int, Field(ge=0)]


class Section(BaseModel):
    """A group of fields: unknown names are refused, assignments are checked."""

    model_config = ConfigDict(extra="forbid", validate_assignment=True)


class HeadSection(Section):
    """The keywords of a registered head."""

    def factory_options(self) -> dict[str, Any]:
        """The keywords to call the factory with; class weights that are still to be counted are left out."""
        options = self.model_dump(exclude={"name"})
        return {key: value for key, value in options.items() if (key, value) != ("class_weights", "balanced")}
