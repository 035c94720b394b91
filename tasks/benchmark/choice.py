"""Which contestants take part, by the libraries they are of."""

from collections.abc import Iterable, Mapping

from backbones.errors import UserError

OURS = "polyhead"


def choose(library_of: Mapping[str, str], peers: Iterable[str], only: Iterable[str]) -> list[str]:
    """Names of the contestants that take part, in their own order: those in `only`, or else ours and those of `peers`.

    Args:
        library_of: the library of each contestant, by the contestant's name.
        peers: libraries; none stands for all.
        only: contestants; none stands for all of those libraries.

    Raises:
        UserError: a library or contestant that does not take part.
    """
    known = dict.fromkeys(library for library in library_of.values() if library != OURS)
    for peer in peers:
        if peer != OURS and peer not in known:
            raise UserError(f"--peer: {peer!r} takes no part; expected some of {', '.join(map(repr, known))}")
    wanted = {OURS, *peers} if set(peers) else {OURS, *known}
    named = [name for name, library in library_of.items() if library in wanted]
    for name in only:
        if name not in named:
            raise UserError(f"--only: {name!r} is no contestant; expected some of {', '.join(map(repr, named))}")
    return [name for name in named if name in set(only)] if set(only) else named
