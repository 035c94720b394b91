"""Every random draw of a run is a pure function of a few integers, so that order of execution cannot change it."""

from hashlib import blake2b


def derive_seed(*parts: int | str) -> int:
    """A 63-bit seed from a few integers or words: `derive_seed(seed, "augment", epoch, index)`."""
    key = "/".join(map(str, parts)).encode()
    return int.from_bytes(blake2b(key, digest_size=8).digest(), "little") >> 1
