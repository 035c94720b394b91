"""The command line: parse, call, exit code. Heavy modules are imported only once a command is sure to run."""

import contextlib
import io
import json
import re
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal, TypeVar

import tyro
from pydantic import ValidationError

from backbones.errors import UserError
from tasks.config import Experiment, PluginHeadConfig
from tasks.experiment_file import ExperimentFile, explain, read_experiment

T = TypeVar("T")
Flattened = tyro.conf.arg(name="")


@dataclass
class TrainArguments:
    """Train an experiment: CONFIG is a Python config or the config.json of a run; any field can be given here."""

    config: tyro.conf.Positional[Path | None] = None
    """configs/det/faster_rcnn_r50_fpn.py, say; not needed with --resume."""
    resume: Path | None = None
    """A run folder to go on with, exactly where it stopped."""
    init: Path | None = None
    """A run or checkpoint whose weights to start from; layers that do not fit, such as other classes, start anew."""
    out: Path | None = None
    """Folder of the new run; by default runs/<name>."""
    experiment: Annotated[Experiment, Flattened] = field(default_factory=Experiment)


@dataclass
class EvaluateArguments:
    """Score a run on its validation data, or a COCO results file on its annotations."""

    run: tyro.conf.Positional[Path | None] = None
    """A run folder (its best checkpoint) or a checkpoint."""
    annotations: Path | None = None
    """With --results: COCO annotations."""
    results: Path | None = None
    """COCO results json to score instead of a run."""
    kind: Literal["bbox", "segm"] = "bbox"
    """What the results file holds."""
    out: Path | None = None
    """Also write the metrics to this json file."""
    experiment: Annotated[Experiment, Flattened] = field(default_factory=Experiment)


@dataclass
class PredictArguments:
    """Run a trained model on images: writes COCO results json and the images with the boxes drawn."""

    run: tyro.conf.Positional[Path]
    """A run folder (its best checkpoint) or a checkpoint."""
    images: tyro.conf.Positional[tuple[str, ...]]
    """Images, folders of images, or glob patterns."""
    out: Path = Path("predictions")
    """Folder to write to."""
    threshold: float = 0.5
    """Boxes that score less are not drawn; the json holds all."""
    device: Literal["auto", "cuda", "mps", "cpu"] = "auto"
    """Where to run."""


@dataclass
class ListArguments:
    """Name the registered backbones, heads and configs with their size."""

    what: tyro.conf.Positional[Literal["all", "backbones", "heads", "configs"]] = "all"


def train(argv: Sequence[str]) -> None:
    """`tools/train.py`."""
    early = _early_options(argv, "--resume")
    if early.get("--resume"):
        source = ExperimentFile(Path(early["--resume"]), _run_config(Path(early["--resume"])))
    elif early.get("config"):
        source = read_experiment(Path(early["config"]))
    else:
        _parse(TrainArguments, argv, TrainArguments())  # Shows the help, if that was asked for.
        raise UserError(
            "no config given first; try python tools/train.py configs/det/faster_rcnn_r50_fpn.py, or --help"
        )
    words = _take_free_options(argv, source.experiment)
    arguments = _parse(TrainArguments, words, TrainArguments(experiment=source.experiment))
    config, data = arguments.experiment, arguments.experiment.data
    notice: list[str] = []
    if data.root is not None and not data.root.exists() and not arguments.resume:
        if _given(argv, "data.root") or source.sample is None:
            raise UserError(
                f"data.root is {data.root}, which does not exist; give the folder of your data with --data.root"
            )
        notice = [
            f"Training the same architecture on a generated sample data set instead, since {data.root} does not exist.",
            "For the real thing, put COCO 2017 there (annotations/, train2017/, val2017/ from cocodataset.org) or give",
            f"your own COCO json or Pascal VOC folder:  python tools/train.py {early['config']} --data.root FOLDER",
        ]
        source = ExperimentFile(source.path, source.sample())
        words = _take_free_options(argv, source.experiment)
        config = _parse(TrainArguments, words, TrainArguments(experiment=source.experiment)).experiment
    if data.root is None and data.format != "cells" and not notice:
        raise UserError("data.root is not set; give the folder of your data with --data.root")
    from tasks.progress import Reporter
    from tasks.training import train_experiment

    if notice:
        Reporter().notice("NO DATA: THIS IS A SAMPLE RUN", notice)
    if config.backbone.name != source.experiment.backbone.name:
        _leave_out_foreign_options(config, source.experiment, argv)
    train_experiment(config, out=arguments.out, init=arguments.init, resume=arguments.resume, source=arguments.config)


def evaluate(argv: Sequence[str]) -> None:
    """`tools/evaluate.py`."""
    early = _early_options(argv, "")
    default = EvaluateArguments()
    if early.get("config"):
        default.experiment = _run_config(Path(early["config"]))
    arguments = _parse(EvaluateArguments, argv, default)
    from tasks.scoring import score_file, score_run

    if arguments.results and arguments.annotations:
        score_file(arguments.annotations, arguments.results, arguments.kind, arguments.out)
    elif early.get("config") and not arguments.results and not arguments.annotations:
        score_run(Path(early["config"]), arguments.experiment, arguments.out)
    else:
        raise UserError("give a run folder first, or --annotations FILE with --results FILE; see --help")


def predict(argv: Sequence[str]) -> None:
    """`tools/predict.py`."""
    arguments = _parse(PredictArguments, argv)
    from tasks.predicting import predict_images

    predict_images(arguments.run, arguments.images, arguments.out, arguments.threshold, arguments.device)


def list_registered(argv: Sequence[str]) -> None:
    """`tools/list.py`."""
    arguments = _parse(ListArguments, argv)
    from tasks.inventory import show_inventory

    show_inventory(arguments.what)


COMMANDS = {"train": train, "evaluate": evaluate, "predict": predict, "list": list_registered}


def run(command: Callable[[Sequence[str]], None], argv: Sequence[str]) -> int:
    """Call a command and return its exit code: 2 after a user's mistake, told in one line, without a traceback."""
    warnings.filterwarnings("ignore", category=FutureWarning)
    try:
        command(argv)
    except UserError as error:
        # What a library says in between may have line breaks.
        print("error:", " ".join(str(error).split("\n")), file=sys.stderr)
        return 2
    except SystemExit as error:  # --help
        return int(error.code or 0)
    except KeyboardInterrupt as error:
        print(str(error) or "stopped", file=sys.stderr)
        return 130
    return 0


def main() -> int:
    """The console command: `polyhead train CONFIG ...`."""
    name, *argv = sys.argv[1:] or ["--help"]
    if name not in COMMANDS:
        print(f"usage: polyhead {{{','.join(COMMANDS)}}} ...", file=sys.stderr)
        return 0 if name in ("-h", "--help") else 2
    return run(COMMANDS[name], argv)


def _parse(arguments: type[T], argv: Sequence[str], default: T | None = None) -> T:
    """tyro's parsing with its boxed error reduced to one line."""
    told = io.StringIO()
    prog = f"tools/{arguments.__name__.removesuffix('Arguments').lower()}.py"
    try:
        with contextlib.redirect_stderr(told):
            if default is None:
                return tyro.cli(arguments, args=list(argv), prog=prog)
            return tyro.cli(arguments, args=list(argv), prog=prog, default=default)
    except SystemExit as error:
        if not error.code:
            raise
        raise UserError(_first_problem(told.getvalue(), error)) from None


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


def _take_free_options(argv: Sequence[str], config: Experiment) -> list[str]:
    """Move `--backbone.options.KEY VALUE`, and the same of a plug-in head, from the command line into `config`.

    No field can list the keywords of somebody else's factory, so tyro does not know them. VALUE is json, or else text.
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
        try:
            free[prefix][option.removeprefix(prefix)] = json.loads(value)
        except json.JSONDecodeError:
            free[prefix][option.removeprefix(prefix)] = value
    return rest


def _early_options(argv: Sequence[str], option: str) -> dict[str, str]:
    """What decides the defaults of all other options: the first positional, and the value of `option`."""
    found = {"config": argv[0]} if argv and not argv[0].startswith("-") else {}
    for index, word in enumerate(argv):
        if option and word == option and index + 1 < len(argv):
            found[option] = argv[index + 1]
        elif option and word.startswith(f"{option}="):
            found[option] = word.split("=", 1)[1]
    return found


def _given(argv: Sequence[str], name: str) -> bool:
    """Whether the field `name` was given on the command line."""
    return any(word.split("=", 1)[0].replace("-", "_") == f"__{name}" for word in argv)


def _run_config(run: Path) -> Experiment:
    """The experiment of a run folder or checkpoint."""
    from tasks.checkpoint import load_checkpoint

    return load_checkpoint(run, prefer_best=False).config


def _own_weights(weights: str, before: str, now: str) -> str | None:
    """torchvision's weights of the backbone `now`, if it has them and the config took its own ones from there too."""
    import torchvision

    has = weights == f"torchvision/{before}" and now in torchvision.models.list_models(torchvision.models)
    return f"torchvision/{now}" if has else None


def _leave_out_foreign_options(config: Experiment, base: Experiment, argv: Sequence[str]) -> None:
    """The config chose its backbone options for its own backbone; another one named here may not know them all.

    Those that it does not take are left out, and said so; those given on the command line stay, and are checked.
    """
    from backbones import backbones
    from tasks.plugins import import_plugins
    from tasks.progress import Reporter

    import_plugins(config.plugins)
    left_out = []
    for option, value in base.backbone.factory_options().items():
        foreign = not backbones.accepts(config.backbone.name, option)
        if foreign and not _given(argv, f"backbone.{option}") and option not in base.backbone.options:
            setattr(config.backbone, option, None)
            left_out.append(f"{option}={value}")
    if config.backbone.weights == base.backbone.weights and base.backbone.weights is not None:
        config.backbone.weights = _own_weights(base.backbone.weights, base.backbone.name, config.backbone.name)
        left_out.append(f"weights={base.backbone.weights}")
        if config.backbone.weights:
            left_out[-1] += f" (now {config.backbone.weights})"
    if left_out:
        Reporter().say(
            f"backbone {config.backbone.name}: left out {', '.join(left_out)}, chosen for {base.backbone.name}"
        )
