"""The command line: parse, call, exit code. Heavy modules are imported only once a command is sure to run."""

import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

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
    TrainOnRayArguments,
)
from tasks.benchmark.arguments import BenchmarkArguments
from tasks.checking.arguments import CheckArguments
from tasks.command_line import early_options, parse
from tasks.depth_study.arguments import StudyDepthArguments
from tasks.experiment_choice import choose_experiment, experiment_of_run
from tasks.experiment_file import ExperimentFile
from tasks.explanation.arguments import ExplainArguments
from tasks.export.arguments import ExportArguments
from tasks.head_choice import keep_heads
from tasks.launcher import end_with_torchrun
from tasks.report.arguments import BrowseArguments, CompareArguments, ReportArguments
from tasks.serving.arguments import ServeArguments


def train(argv: Sequence[str]) -> None:
    """`tools/train.py`."""
    end_with_torchrun()
    resume = early_options(argv, "--resume").get("--resume")
    resumed = ExperimentFile(Path(resume), experiment_of_run(Path(resume))) if resume else None
    arguments, origin = choose_experiment(TrainArguments, argv, resumed)
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


def train_on_ray(argv: Sequence[str]) -> None:
    """`tools/train_on_ray.py`."""
    cut = list(argv).index("--") if "--" in argv else len(argv)
    arguments = parse(TrainOnRayArguments, argv[:cut])
    from tasks.ray_training import train_on_ray

    train_on_ray(arguments, argv[cut + 1 :])


def _keep_heads(arguments: TrainArguments) -> None:
    """Leave the heads that are to be trained, and name the run after them."""
    if arguments.resume:
        raise UserError("--only is for new runs; a resumed run has the heads that it began with: leave it out")
    arguments.experiment = keep_heads(arguments.experiment, arguments.only)
    arguments.experiment.name += "_" + "_".join(arguments.experiment.heads)


def check(argv: Sequence[str]) -> None:
    """`tools/check.py`; its exit code is 1 where an error was found."""
    arguments, _ = choose_experiment(CheckArguments, argv)
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
    arguments, _ = choose_experiment(CrossValidateArguments, argv)
    from tasks.cross_validation import cross_validate

    cross_validate(arguments.experiment, out=arguments.out, source=arguments.config)


def study_depth(argv: Sequence[str]) -> None:
    """`tools/study_depth.py`."""
    arguments, _ = choose_experiment(StudyDepthArguments, argv)
    from tasks.depth_study.study import study_depth

    study_depth(arguments.experiment, arguments.networks, out=arguments.out)


def evaluate(argv: Sequence[str]) -> None:
    """`tools/evaluate.py`."""
    early = early_options(argv, "")
    default = EvaluateArguments()
    if early.get("config"):
        default.experiment = experiment_of_run(Path(early["config"]))
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


def serve(argv: Sequence[str]) -> None:
    """`tools/serve.py`."""
    arguments = parse(ServeArguments, argv)
    from tasks.serving.serve import serve

    serve(arguments)


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
    arguments, _ = choose_experiment(BrowseArguments, argv)
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
    "train_on_ray": train_on_ray,
    "cross_validate": cross_validate,
    "evaluate": evaluate,
    "predict": predict,
    "serve": serve,
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
