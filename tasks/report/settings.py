"""The config with where each value came from, and how the configs of runs differ."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tasks.config import Experiment

Leaves = dict[str, Any]


def leaves(value: Any, name: str = "") -> Leaves:
    """Values by dotted name of a config as json."""
    if isinstance(value, Mapping) and value:
        return {
            key: own
            for part, inner in value.items()
            for key, own in leaves(inner, f"{name}.{part}" if name else str(part)).items()
        }
    return {name: value}


def sources(start: Mapping[str, Any] | None, config: Experiment) -> Iterator[tuple[str, Any, str]]:
    """Name, value and source of every setting: "default", "config", "command line", or "filled in".

    Filled in is what was neither in the config nor on the command line: numbers counted in the data, options that went
    with another backbone.

    Args:
        start: the record of the run's start; None, as of a run that was started otherwise, knows defaults alone.
        config: resolved.
    """
    default = default_leaves(config)
    as_read = leaves(start["as_read"]) if start and "as_read" in start else None
    given = given_names(start.get("command", ()) if start else ())
    for name, value in leaves(config.model_dump(mode="json")).items():
        if name in given:
            yield name, value, "command line"
        elif as_read is not None and name in as_read and as_read[name] != value:
            yield name, value, "filled in"
        elif name in default and default[name] == value:
            yield name, value, "default"
        elif as_read is not None and name not in as_read:
            yield name, value, "filled in"
        else:
            yield name, value, "config" if as_read is not None else "set"


def given_names(command: Sequence[str]) -> set[str]:
    """Dotted names of the fields that the words of a command set; `--runner.no-report` sets `runner.report`."""
    words = [word[2:].split("=", 1)[0].replace("-", "_") for word in command if word.startswith("--")]
    switched_off = [
        ".".join([*parts, last.removeprefix("no_")]) for *parts, last in (word.split(".") for word in words)
    ]
    return {*words, *switched_off}


def default_leaves(config: Experiment) -> Leaves:
    """What each setting is where nobody sets it; a head's name has no default."""
    found = leaves(Experiment().model_dump(mode="json"))
    for name, head in config.heads.items():
        found |= leaves(type(head).model_validate({"name": head.name}).model_dump(mode="json"), f"heads.{name}")
    return found


def differences(configs: Sequence[Experiment]) -> list[tuple[str, list[Any]]]:
    """Settings that are not the same in all configs, with the value of each; a missing one is None.

    Of a head that some lack, its name stands for all of its settings.
    """
    heads = dict.fromkeys(head for config in configs for head in config.heads)
    missing = {f"heads.{head}": head for head in heads if any(head not in config.heads for config in configs)}
    each = [leaves(config.model_dump(mode="json")) for config in configs]
    names = dict.fromkeys(name for own in each for name in own if ".".join(name.split(".")[:2]) not in missing)
    rows = [(name, [own.get(name) for own in each]) for name in names]
    rows += [
        (place, [config.heads[head].name if head in config.heads else None for config in configs])
        for place, head in missing.items()
    ]
    return [(name, values) for name, values in rows if any(value != values[0] for value in values[1:])]


def shown(value: Any) -> str:
    """A setting as it is typed on a command line."""
    if isinstance(value, list):
        return " ".join(map(shown, value)) or "()"
    if isinstance(value, float):
        return f"{value:g}"
    return "" if value == {} else str(value)
