"""Classes as a data set names or numbers them, brought into the order of a `LabelMap`."""

from collections.abc import Iterable, Sequence

from pydantic import ValidationError

from backbones.errors import UserError
from tasks.data.wanted import LabelKind
from tasks.label_map import LabelMap


def named_classes(
    source: object, found: Iterable[str], names: Sequence[str] | None, labels: LabelKind
) -> tuple[LabelMap, dict[str, int]]:
    """Classes that the data names, with ids from 0, and the index of each name found.

    They are sorted: by value if all are whole numbers, else as texts.

    Args:
        source: what was read, for messages.
        found: the names, repeated or not.
        names: `data.class_names`: another order, or names for what is numbered in the data; None if there is none.
        labels: what the labels mean.

    Raises:
        UserError: a name is not among `names`, the order of an ordinal target is not known, or there is one class.
    """
    distinct = sorted(set(found), key=_numbers_first)
    numbered = all(_is_whole(name) for name in distinct)
    if names is not None and numbered and not set(distinct) <= set(names):
        by_number = numbered_classes(source, map(int, distinct), names, labels)
        place = {raw: index for index, raw in enumerate(by_number.ids)}
        return by_number, {name: place[int(name)] for name in distinct}
    if names is None and labels == "ordinal" and not numbered:
        raise UserError(
            f"{source}: the classes {', '.join(distinct)} are no numbers, so their order is not known; "
            "expected data.class_names to give it, lowest first"
        )
    unknown = [name for name in distinct if names is not None and name not in names]
    if names is not None and unknown:
        raise UserError(
            f"{source}: the class {unknown[0]!r} is not in data.class_names ({', '.join(names)}); expected every "
            "class of the data there"
        )
    order = list(names) if names is not None else distinct
    label_map = _label_map(source, range(len(order)), order)
    _require_two(source, label_map, labels)
    return label_map, {name: index for index, name in enumerate(order)}


def numbered_classes(source: object, found: Iterable[int], names: Sequence[str] | None, labels: LabelKind) -> LabelMap:
    """Classes that the data numbers, sorted; the numbers are the ids.

    Args:
        source: what was read, for messages.
        found: the numbers, repeated or not.
        names: of the classes 0, 1, 2, ...; or, as many as there are numbers, of these in order. None: the numbers.
        labels: what the labels mean.

    Raises:
        UserError: the names are too few, or there is one class.
    """
    values = sorted(set(found))
    if names is None:
        label_map = _label_map(source, values, [str(value) for value in values])
    elif not values or (values[0] >= 0 and values[-1] < len(names)):
        label_map = _label_map(source, range(len(names)), names)
    elif len(values) == len(names):
        label_map = _label_map(source, values, names)
    else:
        shown = [str(value) for value in (values if len(values) <= 10 else [*values[:8], "...", values[-1]])]
        raise UserError(
            f"{source}: {len(names)} class names ({', '.join(names)}) for the classes {', '.join(shown)}; expected a "
            "name for each: mend data.class_names"
        )
    _require_two(source, label_map, labels)
    return label_map


def column_names(source: object, found: Sequence[str], names: Sequence[str] | None) -> LabelMap:
    """Classes of multi-label data, or the numbers of a regression, in the order of the data's columns.

    Raises:
        UserError: `names`, `data.class_names`, are not as many.
    """
    if names is not None and len(names) != len(found):
        raise UserError(
            f"{source}: data.class_names gives {len(names)} names for {len(found)} columns; expected one for each"
        )
    chosen = found if names is None else names
    return _label_map(source, range(len(chosen)), chosen)


def _label_map(source: object, ids: Iterable[int], names: Sequence[str]) -> LabelMap:
    try:
        return LabelMap(ids=tuple(ids), names=tuple(names))
    except ValidationError as error:
        reason = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise UserError(f"{source}: {reason}; expected each class once") from None


def _require_two(source: object, label_map: LabelMap, labels: LabelKind) -> None:
    if labels in ("single", "ordinal") and len(label_map) < 2:
        raise UserError(
            f"{source}: the classes are {label_map.names[0] if len(label_map) else 'none at all'} alone; expected at "
            "least 2 to tell apart: check data.root, or name all with data.class_names"
        )


def _numbers_first(name: str) -> tuple[bool, int, str]:
    whole = _is_whole(name)
    return not whole, int(name) if whole else 0, name


def _is_whole(name: str) -> bool:
    return name.removeprefix("-").isdecimal() and name.isascii() and len(name) <= 18
