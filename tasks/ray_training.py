"""The training of a config as processes of a Ray cluster; https://docs.ray.io/en/latest/train/train.html."""

import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from backbones.errors import UserError
from tasks.arguments import TrainArguments, TrainOnRayArguments
from tasks.experiment_choice import choose_experiment
from tasks.output import writing

ROOT = Path(__file__).resolve().parents[1]
MISSING = 'expected Ray to be installed, here and on the cluster: pip install "polyhead[ray]"'


def train_on_ray(arguments: TrainOnRayArguments, argv: Sequence[str]) -> None:
    """Do what `tools/train.py ARGV` does, in `arguments.processes` processes that Ray places and starts again.

    Args:
        arguments: how many processes, and what each is given.
        argv: of `tools/train.py`; names a run folder that all hosts see.

    Raises:
        UserError: Ray is not installed, the config is wrong, there is no run folder, or the training ended with a
            mistake of the user's.
    """
    if arguments.processes < 1 or arguments.max_failures < 0:
        raise UserError(
            f"processes is {arguments.processes} and max_failures {arguments.max_failures}; expected 1 or more, and 0 "
            "or more"
        )
    # A mistake in the config is told before anything is started.
    chosen, _ = choose_experiment(TrainArguments, argv)
    if chosen.out is None:
        raise UserError("no run folder is named; expected --out FOLDER, on a disk that all hosts see")
    try:
        import ray
        from ray.train import FailureConfig, RunConfig, ScalingConfig
        from ray.train.torch import TorchConfig, TorchTrainer
    except ImportError:
        raise UserError(MISSING) from None

    place, shared = Path.cwd(), chosen.out.resolve().parent

    def work(_: Mapping[str, Any]) -> None:
        train_one_process(argv, place, arguments.max_failures)

    cpus = arguments.processes * arguments.cpus
    here = None if os.environ.get("RAY_ADDRESS") else max(cpus, os.cpu_count() or 1)
    ray.init(num_cpus=here, include_dashboard=False, runtime_env={"env_vars": _environment()})
    try:
        # What Ray itself notes down, where all hosts see it, which it looks after.
        with writing(shared), tempfile.TemporaryDirectory(prefix=".ray-", dir=_made(shared)) as own:
            TorchTrainer(
                work,
                train_loop_config={},
                torch_config=TorchConfig(backend="nccl" if arguments.gpus else "gloo"),
                scaling_config=ScalingConfig(
                    num_workers=arguments.processes,
                    use_gpu=arguments.gpus,
                    resources_per_worker={"CPU": arguments.cpus, **({"GPU": 1} if arguments.gpus else {})},
                ),
                run_config=RunConfig(
                    storage_path=own, failure_config=FailureConfig(max_failures=arguments.max_failures)
                ),
            ).fit()
    except Exception as error:  # Ray wraps what its processes raise, in classes that differ by version
        raise UserError(_reason(error)) from error
    finally:
        ray.shutdown()


def train_one_process(argv: Sequence[str], place: Path, max_failures: int) -> None:
    """What each process does: Ray has made it one of a torch process group."""
    os.chdir(place)
    # As torchrun says it; then a run that was begun goes on. See `tasks.elastic`.
    os.environ["TORCHELASTIC_MAX_RESTARTS"] = str(max_failures)
    from tasks.cli import train

    train(argv)


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _environment() -> dict[str, str]:
    """Of the processes: they import this checkout, whatever else is installed there."""
    return {"PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])}


def _reason(error: BaseException) -> str:
    """The line of a mistake of the user's in a process, or the last line of what went wrong."""
    lines = [line for line in str(error).strip().splitlines() if line.strip()] or [type(error).__name__]
    told = [line for line in lines if "UserError: " in line]
    return told[-1].split("UserError: ", 1)[1] if told else f"the training on Ray ended: {lines[-1].strip()}"
