"""Reads experiments: a Python config, or the config.json of a run."""

import difflib
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

import configs
from backbones.errors import UserError
from tasks.config import Experiment, Section
from tasks.data.files.limits import read_bounded
from tasks.head_config import HEAD_SECTIONS
from tasks.image_spec import ImageSpec
from tasks.plugins import import_file, registering_modules


@dataclass(frozen=True, slots=True)
class Origin:
    """Where an experiment comes from.

    Attributes:
        file: the config.
        as_read: what it says, as json, before the command line changed any of it.
        command: the words after the name of the tool.
    """

    file: Path
    as_read: dict[str, Any]
    command: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ExperimentFile:
    """A config as a file gives it.

    Attributes:
        path: the file.
        experiment: what its `config()` returned.
        sample: its `sample()`, the same experiment on generated data, for a machine without the real data.
        about: what its docstring says.
    """

    path: Path
    experiment: Experiment
    sample: Callable[[], Experiment] | None = None
    about: str = ""


def read_experiment(path: Path) -> ExperimentFile:
    """Read a `.py` config or a `.json` one.

    A path that does not exist is also looked for among the installed configs, so that the console command finds
    `configs/det/faster_rcnn_r50_fpn.py` from any folder.

    Raises:
        UserError: the file is missing, is not a config, or has fields that are unknown or of the wrong type.
    """
    if not path.exists():
        installed = Path(next(iter(configs.__path__))).parent / path
        if not installed.exists():
            raise UserError(f"{path}: no such config{_nearest_config(path)}")
        path = installed
    try:
        if path.suffix == ".json":
            return ExperimentFile(path, Experiment.model_validate_json(read_bounded(path).decode()))
        if path.suffix == ".py":
            return _run_config(path)
    except ValidationError as error:
        raise UserError(f"{path}: {explain(error)}") from None
    except UnicodeDecodeError:
        raise UserError(f"{path}: not a text file; expected a config") from None
    raise UserError(f"{path}: expected a config ending in .py or .json")


def explain(error: ValidationError, section: str = "") -> str:
    """The first problem of a validation as one line, with the nearest field name for an unknown one.

    Args:
        error: what pydantic raised.
        section: dotted name of the part of the experiment that was validated.
    """
    problem = error.errors()[0]
    path = list(problem["loc"])
    if path[:1] == ["heads"]:
        del path[2:3]  # Which kind of head it is.
    path = [part for part in path if "[" not in str(part)]  # Which type of several it was taken for.
    field = ".".join(map(str, [section, *path] if section else path))
    match problem["type"]:
        case "extra_forbidden" | "no_such_attribute":
            near = _nearest_field(error.title, problem["loc"])
            return f"{field} is not a field" + (f"; did you mean {near}?" if near else "")
        case "json_invalid":
            return f"not a config ({problem['msg']})"
        case "value_error":  # Of a model's own validator, which tells the value itself.
            return f"{field or error.title}: {problem['ctx']['error']}"
    return f"{field or 'value'} is {problem['input']!r}; {problem['msg'].lower()}"


def _sections() -> dict[str, type[BaseModel]]:
    """Classes of configs by name."""
    sections: list[type[BaseModel]] = [ImageSpec]
    found: list[type[BaseModel]] = [Section]
    while found:
        found = [kind for parent in found for kind in parent.__subclasses__()]
        sections += found
    return {section.__name__: section for section in sections}


def _nearest_field(title: str, location: tuple[int | str, ...]) -> str | None:
    """The field most like an unknown one, beside it or else in any section."""
    *parents, wrong = map(str, location)
    sections = _sections()
    owner = sections.get(title, Experiment)
    if parents[:1] == ["heads"] and len(parents) == 3:
        owner = HEAD_SECTIONS[parents.pop()]
    for parent in parents:
        kind = owner.model_fields[parent].annotation if parent in owner.model_fields else None
        owner = kind if isinstance(kind, type) and issubclass(kind, BaseModel) else owner
    near = difflib.get_close_matches(wrong, owner.model_fields, n=1, cutoff=0.5)
    if near:
        return ".".join([*parents, near[0]])
    known = {name.rsplit(".", 1)[-1]: name for name in reversed(field_names(Experiment))}
    return next((known[name] for name in difflib.get_close_matches(wrong, known, n=1)), None)


def field_names(model: type[BaseModel], prefix: str = "") -> list[str]:
    """Dotted names of every field of a config class."""
    names = []
    for name, field in model.model_fields.items():
        names.append(prefix + name)
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            names += field_names(field.annotation, f"{prefix}{name}.")
    return names


def _run_config(path: Path) -> ExperimentFile:
    before = registering_modules()
    try:
        module = import_file(path)
        if not callable(getattr(module, "config", None)):
            raise UserError(f"{path}: has no function config(); expected def config() -> Experiment")
        experiment = module.config()
    except (ValidationError, UserError):
        raise
    except Exception as error:
        line = next((f.lineno for f in _frames(error) if f.filename == str(path)), 0)
        if isinstance(error, SyntaxError):
            line, error = error.lineno, SyntaxError(error.msg)
        raise UserError(f"{path}:{line}: {type(error).__name__}: {error}") from error
    if not isinstance(experiment, Experiment):
        raise UserError(f"{path}: config() returned {type(experiment).__name__}; expected tasks.config.Experiment")
    now = registering_modules()
    if now - before or module.__name__ in now:  # A resumed run must find these names again.
        experiment.plugins = (*experiment.plugins, str(path.resolve()))
    return ExperimentFile(path, experiment, getattr(module, "sample", None), (module.__doc__ or "").strip())


def _frames(error: BaseException) -> list[traceback.FrameSummary]:
    return list(reversed(traceback.extract_tb(error.__traceback__)))


def _nearest_config(path: Path) -> str:
    root = Path(next(iter(configs.__path__)))
    known = [str(file.relative_to(root.parent)) for file in sorted(root.rglob("*.py")) if file.name != "__init__.py"]
    near = difflib.get_close_matches(str(path), known, n=1, cutoff=0.3)
    return f"; did you mean {near[0]}?" if near else f"; there are {', '.join(known)}"
