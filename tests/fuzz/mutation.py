"""Spoils what a program reads: the nodes of a json tree, the bytes of a file, the words of a command line."""

import copy
import random
import re
from typing import Any

NASTY: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2**31, 2**63, -(2**70), 1e308, -1e308, float("nan"), float("inf"), 0.5, "", " ",
    "a\0b",     "../../etc/passwd", "/etc/passwd", "\ud800", "nan", "1e999", "{}", "a" * 5000, "../x.png",
    [], {}, [[]], [None],
    [0, 0, 0, 0], ["x"] * 4, {"x": 1}, "\n\n", "train/train_0001.png", "C:\\x", "file\nname",
)  # fmt: skip


def spoil_tree(tree: Any, draw: random.Random) -> Any:
    """A copy with one to three of its nodes replaced, deleted, doubled or exchanged."""
    tree = copy.deepcopy(tree)
    for _ in range(draw.randint(1, 3)):
        parent, key = _node(tree, draw)
        if parent is None:
            return draw.choice(NASTY)
        match draw.randrange(5):
            case 0:
                del parent[key]
            case 1 if isinstance(parent, list):
                parent.insert(key, copy.deepcopy(parent[key]))
            case 2 if isinstance(parent, dict):
                parent[draw.choice(["x", "", str(key) + "_", "id", "name"])] = parent.pop(key)
            case 3:
                other, place = _node(tree, draw)
                parent[key] = copy.deepcopy(other[place]) if other is not None else None
            case _:
                parent[key] = copy.deepcopy(draw.choice(NASTY))
    return tree


def _node(tree: Any, draw: random.Random) -> tuple[Any, Any]:
    """A container in a tree and a key of it, those near the top as often as those below."""
    parent, key, node = None, None, tree
    for _ in range(draw.randint(1, 6)):
        if not isinstance(node, dict | list) or not node:
            break
        parent, key = node, draw.choice(list(node)) if isinstance(node, dict) else draw.randrange(len(node))
        node = parent[key]
    return parent, key


def spoil_bytes(content: bytes, draw: random.Random) -> bytes:
    """With bits turned, parts cut out, doubled, overwritten or taken from elsewhere."""
    spoilt = bytearray(content)
    for _ in range(draw.randint(1, 4)):
        if not spoilt:
            break
        at, length = draw.randrange(len(spoilt)), draw.choice([1, 2, 4, 8, 64])
        match draw.randrange(6):
            case 0:
                spoilt[at] ^= 1 << draw.randrange(8)
            case 1:
                del spoilt[at : at + length]
            case 2:
                spoilt[at:at] = spoilt[at : at + length]
            case 3:
                spoilt[at : at + length] = draw.choice([b"\xff", b"\0", b"\x7f", b"9", b"<", b'"']) * length
            case 4:
                del spoilt[at:]
            case _:
                source = draw.randrange(len(spoilt))
                spoilt[at : at + length] = spoilt[source : source + length]
    return bytes(spoilt)


def spoil_parts(text: str, separators: str, draw: random.Random) -> bytes:
    """With one or two of the parts between separators, such as the cells of a table, replaced by others."""
    parts = re.split(f"([{separators}])", text)
    for _ in range(draw.randint(1, 2)):
        parts[draw.randrange(len(parts))] = str(draw.choice([*NASTY, *parts]))
    return "".join(parts).encode("utf-8", "surrogatepass")


def spoil_words(words: list[str], draw: random.Random) -> list[str]:
    """Options and values exchanged, lost and made up."""
    spoilt = list(words)
    for _ in range(draw.randint(1, 3)):
        at = draw.randrange(len(spoilt) + 1)
        match draw.randrange(3):
            case 0:
                del spoilt[at : at + 1]
            case 1:
                spoilt.insert(at, str(draw.choice(NASTY))[:40])
            case _:
                spoilt.insert(at, draw.choice(words))
    return spoilt
