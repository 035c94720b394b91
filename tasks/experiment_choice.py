"""The experiment that a command line means: a config, or a run, with what is said beside it changed in it."""

from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from backbones.errors import UserError
from tasks.arguments import CrossValidateArguments, TrainArguments
from tasks.backbone_switch import leave_out_foreign_options
from tasks.checking.arguments import CheckArguments
from tasks.command_line import early_options, given, parse, take_free_options, tool_of
from tasks.config import Experiment, ScheduleConfig
from tasks.depth_study.arguments import StudyDepthArguments
from tasks.experiment_file import ExperimentFile, Origin, read_experiment
from tasks.report.arguments import BrowseArguments

A = TypeVar("A", TrainArguments, CrossValidateArguments, StudyDepthArguments, CheckArguments, BrowseArguments)


def choose_experiment(kind: type[A], argv: Sequence[str], resumed: ExperimentFile | None = None) -> tuple[A, Origin]:
    """The arguments of a command that trains: from the config named first, with what the command line changes in it;
    and where they come from.

    Where the config names data that is not there, and nobody asked for it, its sample takes its place.

    Args:
        kind: of arguments.
        argv: the command line.
        resumed: the experiment of a run to go on with, in place of a config.
    """
    early, tool = early_options(argv, ""), tool_of(kind)
    if resumed is None and "config" not in early:
        parse(kind, argv, kind())  # Shows the help, if that was asked for.
        raise UserError(f"no config given first; try python {tool} configs/det/faster_rcnn_r50_fpn.py, or --help")
    source: ExperimentFile = resumed or read_experiment(Path(early["config"]))
    as_read = source.experiment.model_dump(mode="json")
    arguments = parse(kind, take_free_options(argv, source.experiment), kind(experiment=source.experiment))
    field, root = _missing_root(arguments.experiment) if resumed is None else ("", None)
    if root is not None:
        if given(argv, field) or source.sample is None:
            raise UserError(f"{field} is {root}, which does not exist; give the place of your data with --{field}")
        from tasks.progress import Reporter

        command = f"python {tool} {early['config']} --{field} FOLDER"
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
        leave_out_foreign_options(arguments.experiment, source.experiment, argv)
    _require_one_unit(arguments.experiment.schedule, source.experiment.schedule, argv)
    return arguments, Origin(source.path, as_read, tuple(argv))


def experiment_of_run(run: Path) -> Experiment:
    """The experiment of a run folder or checkpoint."""
    from tasks.checkpoint import load_checkpoint

    return load_checkpoint(run, prefer_best=False).config


def _missing_root(config: Experiment) -> tuple[str, Path | None]:
    """The first place of data that does not exist, and the field that names it."""
    places = {f"data.sources.{name}.root": source.root for name, source in config.data.sources.items()}
    places = {"data.root": config.data.root, **places}
    missing = ((field, root) for field, root in places.items() if root is not None and not root.exists())
    return next(missing, ("", None))


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
