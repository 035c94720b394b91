"""Numbers as text for people."""

from datetime import datetime, timedelta

DASH = "\N{EN DASH}"  # where nothing could be measured


def metric(value: float) -> str:
    """Of a metric: three decimals, fewer of large ones; a dash where nothing could be measured."""
    if value == -1 or value != value:
        return DASH
    return f"{value:.3f}" if abs(value) < 100 else f"{value:.4g}"


def span(low: float, high: float) -> str:
    """An interval of a metric."""
    return f"{metric(low)} … {metric(high)}"


def duration(seconds: float) -> str:
    """Hours, minutes and seconds, or seconds with a decimal."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    whole = timedelta(seconds=round(seconds))
    return f"{whole} h" if whole >= timedelta(hours=1) else f"{str(whole).removeprefix('0:').lstrip('0')} min"


def moment(text: str) -> str:
    """A date and time in ISO 8601, to the minute."""
    time = datetime.fromisoformat(text)
    return f"{time:%Y-%m-%d %H:%M}" + (" UTC" if time.utcoffset() == timedelta(0) else f"{time: %z}".rstrip())


def memory(size: float) -> str:
    """Bytes in GiB or MiB."""
    return f"{size / 2**30:.1f} GiB" if size >= 2**30 else f"{size / 2**20:.0f} MiB"


def share(part: float, whole: float) -> str:
    """As percent."""
    return f"{part / whole:.1%}" if whole else DASH
