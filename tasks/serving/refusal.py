"""Why a request gets no prediction."""

from collections.abc import Mapping


class Refusal(Exception):
    """A request that is not answered as asked.

    Args:
        status: of HTTP.
        message: one line: what is wrong, what was expected, and how to mend it.
        field: of the request that it is about.
        retry_after: seconds after which the same request may succeed; None where it will not.
    """

    def __init__(self, status: int, message: str, field: str, retry_after: int | None = None) -> None:
        super().__init__(message)
        self.status, self.field = status, field
        self.headers: Mapping[str, str] = {} if retry_after is None else {"Retry-After": str(max(retry_after, 1))}
