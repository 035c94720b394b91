"""What every head says of an option that is out of range."""

from backbones.errors import UserError


def require(head: str, option: str, value: object, holds: bool, expected: str) -> None:
    """Raise `UserError` unless an option of `head` holds."""
    if not holds:
        raise UserError(f"{head}: {option} is {value}; expected {expected}")
