"""The command line: parse, call, exit code. Heavy modules are imported only once a command is sure to run."""

import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from backbones.errors import UserError
from tasks.arguments import (
    CrossValidateArguments,
    EvaluateArguments,
    ExportWeightsArguments,
    ListArguments,
    PlanArguments,
    PredictArguments,
    ReplayArguments,
    TrainArguments,
)
from tasks.benchmark.arguments import BenchmarkArguments
from tasks.checking.arguments import CheckArguments
from tasks.command_line import early_options, given, parse, take_free_options
from tasks.config import Experiment, ScheduleConfig
from tasks.depth_study.arguments import StudyDepthArguments
from tasks.experiment_file import ExperimentFile, Origin, read_experiment
from tasks.explanation.arguments import ExplainArguments
from tasks.export.arguments import ExportArguments
from tasks.head_choice import keep_heads
from tasks.report.arguments import BrowseArguments, CompareArguments, ReportArguments

A = TypeVar("A", TrainArguments, CrossValidateArguments, StudyDepthArguments, CheckArguments, BrowseArguments)


def train(argv: Sequence[str]) -> None:
    """`tools/train.py`."""
    resume = early_options(argv, "--resume").get("--resume")
    resumed = ExperimentFile(Path(resume), _run_config(Path(resume))) if resume else None
    arguments, origin = _choose(TrainArguments, argv, resumed)
    if arguments.only:
        _keep_heads(arguments)
    if arguments.check:
        from tasks.checking.checking import check_before_training

        check_before_training(arguments.experiment)
    from tasks.training import train_experiment

    train_experiment(
        arguments.experiment,
        out=arguments.out,
        init=arguments.init,
        resume=arguments.resume,
        source=arguments.config,
        origin=origin,
    )


def _keep_heads(arguments: TrainArguments) -> None:
    """Leave the heads that are to be trained, and name the run after them."""
    if arguments.resume:
        raise UserError("--only is for new runs; a resumed run has the heads that it began with: leave it out")
    arguments.experiment = keep_heads(arguments.experiment, arguments.only)
    arguments.experiment.name += "_" + "_".join(arguments.experiment.heads)


def check(argv: Sequence[str]) -> None:
    """`tools/check.py`; its exit code is 1 where an error was found."""
    arguments, _ = _choose(CheckArguments, argv)
    from tasks.checking.checking import check

    outcome = check(
        arguments.experiment,
        only=arguments.only,
        seconds=arguments.seconds,
        json_file=arguments.json,
        out=arguments.out,
    )
    if outcome.count("error"):
        raise SystemExit(1)


def cross_validate(argv: Sequence[str]) -> None:
    """`tools/cross_validate.py`."""
    arguments, _ = _choose(CrossValidateArguments, argv)
    from tasks.cross_validation import cross_validate

    cross_validate(arguments.experiment, out=arguments.out, source=arguments.config)


def study_depth(argv: Sequence[str]) -> None:
    """`tools/study_depth.py`."""
    arguments, _ = _choose(StudyDepthArguments, argv)
    from tasks.depth_study.study import study_depth

    study_depth(arguments.experiment, arguments.networks, out=arguments.out)


def _choose(kind: type[A], argv: Sequence[str], resumed: ExperimentFile | None = None) -> tuple[A, Origin]:
    """The arguments of a command that trains: from the config named first, with what the command line changes in it;
    and where they come from.

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
    as_read = source.experiment.model_dump(mode="json")
    arguments = parse(kind, take_free_options(argv, source.experiment), kind(experiment=source.experiment))
    field, root = _missing_root(arguments.experiment) if resumed is None else ("", None)
    if root is not None:
        if given(argv, field) or source.sample is None:
            raise UserError(f"{field} is {root}, which does not exist; give the place of your data with --{field}")
        from tasks.progress import Reporter

        command = f"python tools/{tool}.py {early['config']} --{field} FOLDER"
        lines = [
            f"Training the same architecture on a generated sample data set instead, since {root} does not exist.",
            f"For the real thing, put the data there, or give your own:  {command}",
            *["", source.about] * bool(source.about),
        ]
        Reporter().notice("NO DATA: THIS IS A SAMPLE RUN", lines)
        source = ExperimentFile(source.path, source.sample())
        as_read = source.experiment.model_dump(mode="json")
        arguments = parse(kind, take_free_options(argv, source.experiment), kind(experiment=source.experiment))
    if arguments.experiment.backbone.name != source.experiment.backbone.name:
        _leave_out_foreign_options(arguments.experiment, source.experiment, argv)
    _require_one_unit(arguments.experiment.schedule, source.experiment.schedule, argv)
    return arguments, Origin(source.path, as_read, tuple(argv))


def _missing_root(config: Experiment) -> tuple[str, Path | None]:
    """The first place of data that does not exist, and the field that names it."""
    places = {f"data.sources.{name}.root": source.root for name, source in config.data.sources.items()}
    places = {"data.root": config.data.root, **places}
    missing = ((field, root) for field, root in places.items() if root is not None and not root.exists())
    return next(missing, ("", None))


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
        score_run(Path(early["config"]), arguments.experiment, arguments.out, arguments.only)
    else:
        raise UserError("give a run folder first, or --annotations FILE with --results FILE; see --help")


def predict(argv: Sequence[str]) -> None:
    """`tools/predict.py`."""
    arguments = parse(PredictArguments, argv)
    from tasks.prediction.predicting_files import predict_files

    if left_out := predict_files(arguments):
        raise SystemExit(left_out)


def explain(argv: Sequence[str]) -> None:
    """`tools/explain.py`."""
    arguments = parse(ExplainArguments, argv)
    from tasks.explanation.explaining import explain_images

    explain_images(arguments)


def report(argv: Sequence[str]) -> None:
    """`tools/report.py`."""
    arguments = parse(ReportArguments, argv)
    from tasks.report.report import report

    report(arguments)


def compare(argv: Sequence[str]) -> None:
    """`tools/compare.py`."""
    arguments = parse(CompareArguments, argv)
    from tasks.report.compare import compare

    compare(arguments)


def browse(argv: Sequence[str]) -> None:
    """`tools/browse.py`."""
    arguments, _ = _choose(BrowseArguments, argv)
    from tasks.report.browse import browse

    browse(arguments)


def replay(argv: Sequence[str]) -> None:
    """`tools/replay.py`."""
    arguments = parse(ReplayArguments, argv)
    from tasks.replay import replay

    replay(arguments.run, arguments.step, arguments.out)


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
    CheckArguments: "check",
    BrowseArguments: "browse",
    CrossValidateArguments: "cross_validate",
    StudyDepthArguments: "study_depth",
}


def export_weights(argv: Sequence[str]) -> None:
    """`tools/export_weights.py`."""
    arguments = parse(ExportWeightsArguments, argv)
    from tasks.exporting import export_weights

    export_weights(arguments.run, arguments.layout, arguments.out, arguments.head)


def export(argv: Sequence[str]) -> None:
    """`tools/export.py`."""
    arguments = parse(ExportArguments, argv)
    from tasks.export.exporting import export_run

    export_run(arguments)


COMMANDS = {
    "export": export,
    "export_weights": export_weights,
    "plan": plan,
    "check": check,
    "train": train,
    "cross_validate": cross_validate,
    "evaluate": evaluate,
    "predict": predict,
    "explain": explain,
    "report": report,
    "compare": compare,
    "browse": browse,
    "replay": replay,
    "study_depth": study_depth,
    "benchmark": benchmark,
    "list": list_registered,
}


def run(command: Callable[[Sequence[str]], None], argv: Sequence[str]) -> int:
    """Call a command and return its exit code: 2 after a user's mistake, told in one line, without a traceback."""
    warnings.filterwarnings("ignore", category=FutureWarning)
    try:
        command(argv)
        _leave_processes()
    except UserError as error:
        # What a library says in between may have line breaks.
        print("error:", " ".join(str(error).split("\n")), file=sys.stderr)
        return 2
    except SystemExit as error:  # --help, or what a check found
        return int(error.code or 0)
    except KeyboardInterrupt as error:
        print(str(error) or "stopped", file=sys.stderr)
        return 130
    return 0


def _leave_processes() -> None:
    """Take leave of the other processes of a run, if there are any; else threads that talk to them would still be at
    work when the interpreter goes down, which aborts it now and then.
    """
    distributed = sys.modules.get("torch.distributed")
    if distributed is not None and distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()


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
