"""Words of a command line into typed arguments, and a mistake in them into one line."""

import contextlib
import io
import json
import re
from collections.abc import Sequence
from typing import TypeVar

import tyro
from pydantic import ValidationError

from backbones.errors import UserError
from tasks.config import Experiment, PluginHeadConfig
from tasks.experiment_file import explain

T = TypeVar("T")


def parse(arguments: type[T], argv: Sequence[str], default: T | None = None) -> T:
    """tyro's parsing with its boxed error reduced to one line."""
    told, prog = io.StringIO(), tool_of(arguments)
    try:
        with contextlib.redirect_stderr(told):
            if default is None:
                return tyro.cli(arguments, args=list(argv), prog=prog)
            return tyro.cli(arguments, args=list(argv), prog=prog, default=default)
    except SystemExit as error:
        if not error.code:
            raise
        raise UserError(_first_problem(told.getvalue(), error)) from None


def tool_of(arguments: type) -> str:
    """The tool that takes such arguments: `tools/cross_validate.py` for `CrossValidateArguments`."""
    words = re.findall(r"[A-Z][a-z]+", arguments.__name__.removesuffix("Arguments"))
    return f"tools/{'_'.join(words).lower()}.py"


def _first_problem(told: str, exit: SystemExit) -> str:
    """The first paragraph of tyro's box, unwrapped; a value out of range is told as one in a config file is."""
    # Coloured on a terminal; where the output is not UTF-8, the title is underlined with dashes in place of a box.
    lines = [re.sub(r"\x1b\[[\d;]*m", "", line).strip("│ ") for line in told.splitlines()]
    title = next((number for number, line in enumerate(lines) if (line and not line.strip("-")) or line[:1] == "╭"), -1)
    inside = lines[title + 1 :]
    end = next((number for number, line in enumerate(inside) if not line.strip("─-")), len(inside))
    reason = " ".join(inside[:end]) or "unusable arguments"
    cause: BaseException | None = exit
    while cause is not None:
        cause = cause.__context__
        if isinstance(cause, ValidationError):
            section = reason.removeprefix("Error parsing ").split(":", 1)[0].removeprefix("experiment").lstrip(".")
            return explain(cause, section)
    near = next((line.split()[0].replace("-", "_") for line in inside[end:] if re.match(r"--\w", line)), None)
    if near and reason.startswith("Unrecognized"):
        reason += f"; did you mean --{near.lstrip('_')}?"
    return reason


def take_free_options(argv: Sequence[str], config: Experiment) -> list[str]:
    """Move `--backbone.options.KEY VALUE`, and the same of a plug-in head, from the command line into `config`.

    No field can list the keywords of somebody else's factory, so tyro does not know them. VALUE is json, True, False
    or None as tyro has them for fields, or else text; hyphens in KEY are underscores, as for fields.
    """
    free = {"--backbone.options.": config.backbone.options}
    for name, head in config.heads.items():
        if isinstance(head, PluginHeadConfig):
            free[f"--heads.{name}.options."] = head.options
    rest, words = [], iter(argv)
    for word in words:
        option, equals, value = word.partition("=")
        prefix = next((prefix for prefix in free if option.startswith(prefix)), None)
        if prefix is None:
            rest.append(word)
            continue
        if not equals:
            value = next(words, "")
        key = option.removeprefix(prefix).replace("-", "_")
        try:
            free[prefix][key] = json.loads(value)
        except json.JSONDecodeError:
            free[prefix][key] = {"True": True, "False": False, "None": None}.get(value, value)
    return rest


def early_options(argv: Sequence[str], option: str) -> dict[str, str]:
    """What decides the defaults of all other options: the first positional, and the value of `option`."""
    found = {"config": argv[0]} if argv and not argv[0].startswith("-") else {}
    for index, word in enumerate(argv):
        if option and word == option and index + 1 < len(argv):
            found[option] = argv[index + 1]
        elif option and word.startswith(f"{option}="):
            found[option] = word.split("=", 1)[1]
    return found


def given(argv: Sequence[str], name: str) -> bool:
    """Whether the field `name` was given on the command line."""
    return any(word.split("=", 1)[0].replace("-", "_") == f"__{name}" for word in argv)
