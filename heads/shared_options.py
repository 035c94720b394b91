"""Options that a head hands on to the one it extends, as part of its own signature."""

import inspect
from collections.abc import Collection


def share_options(head: type, without: Collection[str] = ()) -> None:
    """Write what `**options` of a head's constructor stands for into its signature, by which a wrong one is told.

    These are the keywords of the next constructor in line, and so on while that hands its own `**options` on.

    Args:
        head: whose signature it is.
        without: options of the others that it decides itself.
    """
    line = (base.__dict__["__init__"] for base in head.__mro__ if "__init__" in base.__dict__)
    own = list(inspect.signature(next(line)).parameters.values())[1:]
    while own and own[-1].kind is inspect.Parameter.VAR_KEYWORD:
        taken = {parameter.name for parameter in own}.union(without)
        further = inspect.signature(next(line)).parameters.values()
        kinds = (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.VAR_KEYWORD)
        own[-1:] = [each for each in further if each.kind in kinds and each.name not in taken - {own[-1].name}]
    head.__signature__ = inspect.Signature(own)  # type: ignore[attr-defined]
