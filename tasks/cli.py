"""The command line: parse, call, exit code. Heavy modules are imported only once a command is sure to run."""

import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal, TypeVar

import tyro

from backbones.errors import UserError
from tasks.benchmark.arguments import BenchmarkArguments
from tasks.command_line import early_options, given, parse, take_free_options
from tasks.config import Experiment, ScheduleConfig
from tasks.depth_study.arguments import StudyDepthArguments
from tasks.experiment_file import ExperimentFile, read_experiment
from tasks.explanation.arguments import ExplainArguments

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
class CrossValidateArguments:
    """Train an experiment fold by fold and score every image by the model that has not seen it."""

    config: tyro.conf.Positional[Path | None] = None
    """configs/med/unet_r18_isbi2012.py, say."""
    out: Path | None = None
    """Folder of the runs; by default runs/<name>-<folds>-fold. The same command goes on where it was stopped."""
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
    """Run a trained model on images: writes predictions.json, masks, and the images with what was found drawn."""

    run: tyro.conf.Positional[Path]
    """A run folder (its best checkpoint), a checkpoint, or the folder of a cross-validation (all its models)."""
    images: tyro.conf.Positional[tuple[str, ...]]
    """Images, folders of images, or glob patterns."""
    out: Path = Path("predictions")
    """Folder to write to."""
    threshold: float = 0.5
    """Boxes and labels that score less are not drawn; the json holds all."""
    device: Literal["auto", "cuda", "mps", "cpu"] = "auto"
    """Where to run."""


A = TypeVar("A", TrainArguments, CrossValidateArguments, StudyDepthArguments)


@dataclass
class ListArguments:
    """Name the registered backbones, heads and configs with their size."""

    what: tyro.conf.Positional[str] = "all"
    """all, backbones, heads or configs; or the backbones of a pattern, such as 'resnet*' or 'timm/convnext_*'."""


@dataclass
class PlanArguments:
    """Measure a data set and write a config for it, with the reason for each choice, to be edited and trained."""

    data: tyro.conf.Positional[Path]
    """Folder (or CSV or npz file) with the data."""
    task: Literal["boxes", "masks", "labels"] | None = None
    """What to learn; None looks for boxes, then masks, then labels of images."""
    out: Path | None = None
    """The config to write; by default <data>_plan.py."""


@dataclass
class ExportWeightsArguments:
    """Write the weights of a run by the names of another library, which then loads them as its own."""

    run: tyro.conf.Positional[Path]
    """A run folder (its best checkpoint) or a checkpoint."""
    layout: Literal["torchvision", "timm", "smp", "detectron2", "mmdetection"]
    """Whose names."""
    out: Path
    """The file, .pth or .safetensors."""
    head: str | None = None
    """Which head, where a run has several."""


def train(argv: Sequence[str]) -> None:
    """`tools/train.py`."""
    resume = early_options(argv, "--resume").get("--resume")
    resumed = ExperimentFile(Path(resume), _run_config(Path(resume))) if resume else None
    arguments = _choose(TrainArguments, argv, resumed)
    from tasks.training import train_experiment

    train_experiment(
        arguments.experiment,
        out=arguments.out,
        init=arguments.init,
        resume=arguments.resume,
        source=arguments.config,
    )


def cross_validate(argv: Sequence[str]) -> None:
    """`tools/cross_validate.py`."""
    arguments = _choose(CrossValidateArguments, argv)
    from tasks.cross_validation import cross_validate

    cross_validate(arguments.experiment, out=arguments.out, source=arguments.config)


def study_depth(argv: Sequence[str]) -> None:
    """`tools/study_depth.py`."""
    arguments = _choose(StudyDepthArguments, argv)
    from tasks.depth_study.study import study_depth

    study_depth(arguments.experiment, arguments.networks, out=arguments.out)


def _choose(kind: type[A], argv: Sequence[str], resumed: ExperimentFile | None = None) -> A:
    """The arguments of a command that trains: from the config named first, with what the command line changes in it.

    Where the config names data that is not there, and nobody asked for it, its sample takes its place.

    Args:
        kind: of arguments.
        argv: the command line.
        resumed: the experiment of a run to go on with, in place of a config.
    """
    early, tool = early_options(argv, ""), TRAINING_TOOLS[kind]
    if resumed is None and "config" not in early:
        parse(kind, argv, kind())  # Shows the help, if that was asked for.
        raise UserError(
            f"no config given first; try python tools/{tool}.py configs/det/faster_rcnn_r50_fpn.py, or --help"
        )
    source: ExperimentFile = resumed or read_experiment(Path(early["config"]))
    arguments = parse(kind, take_free_options(argv, source.experiment), kind(experiment=source.experiment))
    root = arguments.experiment.data.root
    if root is not None and not root.exists() and resumed is None:
        if given(argv, "data.root") or source.sample is None:
            raise UserError(f"data.root is {root}, which does not exist; give the place of your data with --data.root")
        from tasks.progress import Reporter

        command = f"python tools/{tool}.py {early['config']} --data.root FOLDER"
        lines = [
            f"Training the same architecture on a generated sample data set instead, since {root} does not exist.",
            f"For the real thing, put the data there, or give your own:  {command}",
            *["", source.about] * bool(source.about),
        ]
        Reporter().notice("NO DATA: THIS IS A SAMPLE RUN", lines)
        source = ExperimentFile(source.path, source.sample())
        arguments = parse(kind, take_free_options(argv, source.experiment), kind(experiment=source.experiment))
    if arguments.experiment.backbone.name != source.experiment.backbone.name:
        _leave_out_foreign_options(arguments.experiment, source.experiment, argv)
    _require_one_unit(arguments.experiment.schedule, source.experiment.schedule, argv)
    return arguments


def evaluate(argv: Sequence[str]) -> None:
    """`tools/evaluate.py`."""
    early = early_options(argv, "")
    default = EvaluateArguments()
    if early.get("config"):
        default.experiment = _run_config(Path(early["config"]))
    arguments = parse(EvaluateArguments, argv, default)
    from tasks.scoring import score_file, score_run

    if arguments.results and arguments.annotations:
        score_file(arguments.annotations, arguments.results, arguments.kind, arguments.out)
    elif early.get("config") and not arguments.results and not arguments.annotations:
        score_run(Path(early["config"]), arguments.experiment, arguments.out)
    else:
        raise UserError("give a run folder first, or --annotations FILE with --results FILE; see --help")


def predict(argv: Sequence[str]) -> None:
    """`tools/predict.py`."""
    arguments = parse(PredictArguments, argv)
    from tasks.predicting import predict_images

    predict_images(arguments.run, arguments.images, arguments.out, arguments.threshold, arguments.device)


def explain(argv: Sequence[str]) -> None:
    """`tools/explain.py`."""
    arguments = parse(ExplainArguments, argv)
    from tasks.explanation.explaining import explain_images

    explain_images(arguments)


def list_registered(argv: Sequence[str]) -> None:
    """`tools/list.py`."""
    arguments = parse(ListArguments, argv)
    from tasks.inventory import show_inventory

    show_inventory(arguments.what)


def plan(argv: Sequence[str]) -> None:
    """`tools/plan.py`."""
    arguments = parse(PlanArguments, argv)
    from tasks.planning import plan_data

    plan_data(arguments.data, arguments.task, arguments.out)


def benchmark(argv: Sequence[str]) -> None:
    """`tools/benchmark.py`."""
    arguments = parse(BenchmarkArguments, argv)
    from tasks.benchmark.benchmark import benchmark

    benchmark(arguments)


TRAINING_TOOLS: dict[type, str] = {
    TrainArguments: "train",
    CrossValidateArguments: "cross_validate",
    StudyDepthArguments: "study_depth",
}


def export_weights(argv: Sequence[str]) -> None:
    """`tools/export_weights.py`."""
    arguments = parse(ExportWeightsArguments, argv)
    from tasks.exporting import export_weights

    export_weights(arguments.run, arguments.layout, arguments.out, arguments.head)


COMMANDS = {
    "export_weights": export_weights,
    "plan": plan,
    "train": train,
    "cross_validate": cross_validate,
    "evaluate": evaluate,
    "predict": predict,
    "explain": explain,
    "study_depth": study_depth,
    "benchmark": benchmark,
    "list": list_registered,
}


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


def _run_config(run: Path) -> Experiment:
    """The experiment of a run folder or checkpoint."""
    from tasks.checkpoint import load_checkpoint

    return load_checkpoint(run, prefer_best=False).config


def _require_one_unit(schedule: ScheduleConfig, base: ScheduleConfig, argv: Sequence[str]) -> None:
    """Raise `UserError` for a length or warm-up without effect, or for milestones that were meant in another unit."""
    if given(argv, "schedule.epochs") and schedule.steps:
        raise UserError(
            f"--schedule.epochs is {schedule.epochs}, but schedule.steps is {schedule.steps} and decides; expected one "
            "of them: give --schedule.steps N, or --schedule.steps None as well"
        )
    if given(argv, "schedule.warmup_factor") and schedule.warmup_factor and not schedule.warmup_steps:
        raise UserError(
            f"--schedule.warmup_factor is {schedule.warmup_factor:g}, but schedule.warmup_steps is 0 and nothing warms "
            "up; give --schedule.warmup_steps as well"
        )
    counted, counts = ("steps" if own.steps else "epochs" for own in (base, schedule))
    if counted != counts and schedule.policy == "milestones" and not given(argv, "schedule.milestones"):
        milestones = " ".join(f"{milestone:g}" for milestone in schedule.milestones)
        raise UserError(
            f"--schedule.steps is {schedule.steps}, but schedule.milestones are {milestones} {counted} and would now "
            f"be {counts}; give --schedule.milestones in {counts} as well"
        )


def _own_weights(weights: str, before: str, now: str) -> str | None:
    """torchvision's weights of the backbone `now`, or timm's of one of timm's networks, if it has them and the config
    took its own ones from there too.
    """
    import torchvision

    if now.startswith("timm/") and weights == f"torchvision/{before}":
        import timm

        return now if timm.list_pretrained(now.removeprefix("timm/") + ("" if "." in now else ".*")) else None
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
        free = option in base.backbone.options
        asked = given(argv, f"backbone.options.{option}" if free else f"backbone.{option}")
        if asked or backbones.accepts(config.backbone.name, option):
            continue
        if free:
            config.backbone.options.pop(option)
        else:
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
