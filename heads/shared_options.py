"""Options that a head hands on to the head it extends, as part of its own signature."""

import inspect
from collections.abc import Collection


def share_options(head: type, base: type, without: Collection[str] = ()) -> None:
    """Write the options that `**options` of a constructor stands for into its signature, by which a wrong one is told.

    Args:
        head: whose signature it is; it hands `**options` on to `base`.
        base: has the options as keywords.
        without: options of `base` that `head` decides itself.
    """
    own = list(inspect.signature(head.__init__).parameters.values())[1:]  # type: ignore[misc]
    if own and own[-1].kind is inspect.Parameter.VAR_KEYWORD:
        shared = inspect.signature(base.__init__).parameters.values()  # type: ignore[misc]
        own[-1:] = [each for each in shared if each.kind is each.KEYWORD_ONLY and each.name not in without]
    head.__signature__ = inspect.Signature(own)  # type: ignore[attr-defined]
