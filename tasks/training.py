"""From a resolved experiment to a trained run: puts data, model, folder and runner together, and says what came out."""

from collections.abc import Mapping
from pathlib import Path

import torch
from accelerate.utils.operations import broadcast_object_list

from backbones import UserError
from tasks.checkpoint import Checkpoint, latest_checkpoint, load_checkpoint
from tasks.checkpoint_fit import require_same_image, require_same_labels
from tasks.config import Experiment
from tasks.data.loader import TrainingLoader
from tasks.data.mixture import Mixture
from tasks.device import build_accelerator, describe
from tasks.elastic import run_begun_before_restart
from tasks.evaluation import show_metrics
from tasks.experiment_file import Origin
from tasks.head_choice import learning_heads
from tasks.inference import Predictor
from tasks.initial_weights import load_initial_weights, resting_labels, run_to_start_from
from tasks.joint_evaluation import build_evaluator
from tasks.label_map import LabelMap
from tasks.model import build_model
from tasks.progress import Reporter
from tasks.run_folder import RunFolder
from tasks.runner import Runner
from tasks.seeding import derive_seed
from tasks.sources import fill_from_sources, open_sources, source_labels, training_data
from tasks.start import describe_start
from tasks.step_time import StepTime
from tasks.stepper import Stepper
from tasks.tensorboard import require_tensorboard


def train_experiment(
    config: Experiment,
    *,
    out: Path | None = None,
    init: Path | None = None,
    resume: Path | None = None,
    source: Path | None = None,
    origin: Origin | None = None,
) -> dict[str, float]:
    """Train `config` and return the metrics of the last evaluation.

    Args:
        config: the resolved experiment.
        out: a new run folder; None takes `runs/<name>`.
        init: a run or checkpoint whose weights to start from; what does not fit, such as the class layers of another
            label map, starts anew.
        resume: a run to go on with; then `out` and `init` are not used.
        source: the file that `config` came from, for the commands shown at the end.
        origin: what the report tells of where the settings come from.

    Raises:
        UserError: something given cannot be used.
        Interrupted: the user stopped the run; it can be resumed.
    """
    runner = build_runner(config, out=out, init=init, resume=resume)
    folder, reporter = runner.folder, runner.reporter
    start = f"resumed after step {runner.step}" if runner.step else "new run"
    device = describe(runner.accelerator, config.runner)
    reporter.say(f"{device}; {start}; {runner.total_steps} steps; everything goes to {folder.path}")
    if config.schedule.warmup_steps >= runner.total_steps:
        reporter.say(
            f"warning: schedule.warmup_steps is {config.schedule.warmup_steps}, so the learning rate does not reach "
            f"{config.optimizer.lr:g} within the {runner.total_steps} steps; set it lower"
        )
    if runner.accelerator.is_main_process:
        with folder.full_disk_told():
            folder.log_start(describe_start(runner.step, device, config, origin))
    metrics = runner.train()
    if runner.accelerator.is_main_process:
        show_metrics(reporter, metrics, runner.evaluator.notes())
        if config.runner.report:
            _write_report(runner)
        _conclude(reporter, folder, source or folder.config)
    return metrics


def build_runner(
    config: Experiment,
    *,
    out: Path | None = None,
    init: Path | None = None,
    resume: Path | None = None,
    start: Checkpoint | None = None,
) -> Runner:
    """All that training needs, in place, before its first step; arguments and errors as for `train_experiment`.

    `start` is a checkpoint to go on from in a folder of its own.
    """
    accelerator = build_accelerator(config.runner, unused_weights=_leaves_weights_unused(config))
    reporter = Reporter(accelerator.is_main_process)
    sources, messages = open_sources(config)
    for message in messages:
        reporter.say(message)
    begun = start.folder if start else None
    labels = {**source_labels(sources), **resting_labels(config, resume or begun or run_to_start_from(config, init))}
    labels = {name: labels[name] for name in config.heads}
    fill_from_sources(sources)

    # The initial weights are a function of the seed alone.
    torch.manual_seed(derive_seed(config.runner.seed, "initial weights"))
    model = build_model(config, labels)
    if start is None:
        resume = resume or run_begun_before_restart(config, out, accelerator)
    checkpoint = load_checkpoint(resume, prefer_best=False) if resume else start
    if checkpoint is not None:
        _require_resumable(checkpoint, resume, config, labels)
    else:
        for line in load_initial_weights(model, config, labels, init):
            reporter.say(line)

    data = training_data(config, sources)
    if isinstance(data, Mixture):
        reporter.say(str(data))
    loader = TrainingLoader(
        data,
        config.data,
        config.image,
        seed=config.runner.seed,
        divisor=model.divisor,
        passes=config.runner.accumulate,
        rank=accelerator.process_index,
        world_size=accelerator.num_processes,
        pin_memory=accelerator.device.type == "cuda",
        wanted=sources[0].wanted,
        schedule=config.schedule,
        budget=StepTime(model, accelerator),
    )
    count = loader.worker_count
    if count is not None:
        reporter.say(str(count))
    workers = None if count is None else count.workers
    stepper = Stepper(config, model, accelerator, loader.steps_per_epoch, checkpoint)
    evaluator = build_evaluator(config, sources, labels, accelerator, model.divisor, workers)
    predictor = Predictor([model.part(learning_heads(config))], config.inference)
    _require_metric(config.runner.monitor, evaluator.metric_names())
    if config.runner.tensorboard:
        require_tensorboard()
    path = resume
    if path is None and accelerator.is_main_process:
        path = RunFolder.create(config, out).path
    folder = RunFolder(broadcast_object_list([path])[0])
    return Runner(config, stepper, labels, loader, predictor, evaluator, folder, accelerator, reporter)


def train_or_resume(config: Experiment, folder: Path, source: Path | None = None) -> dict[str, float]:
    """Train `config` in `folder`, going on where a run in it stopped; a run that is done only tells its metrics.

    For commands of several runs, which are to go on when they are given again. Arguments and errors as for
    `train_experiment`.
    """
    begun = latest_checkpoint(folder / "checkpoints") is not None
    if not begun:
        RunFolder(folder).clear_vain_start()
    return train_experiment(config, out=None if begun else folder, resume=folder if begun else None, source=source)


def _leaves_weights_unused(config: Experiment) -> bool:
    """Whether steps may leave weights without a gradient: of a backbone at rest, or behind the level a head reads."""
    levels = [head.factory_options().get("level") for head in config.heads.values()]
    return config.schedule.freeze_backbone_epochs > 0 or any(level not in (None, "c5") for level in levels)


def _require_resumable(
    checkpoint: Checkpoint, run: Path | None, config: Experiment, labels: Mapping[str, LabelMap]
) -> None:
    """Raise `UserError` for what would not go on where the run stopped."""
    if checkpoint.folder == run:
        raise UserError(f"--resume {run}: is a checkpoint; give its run folder, or start a new run from it with --init")
    require_same_labels(checkpoint, labels)
    require_same_image(checkpoint, config)
    before, now = checkpoint.config.optimizer.name, config.optimizer.name
    if before != now:
        raise UserError(
            f"optimizer.name is {now}, but {run or checkpoint.folder} was trained with {before}, whose state cannot be "
            "taken over; start a new run from it with --init"
        )


def _require_metric(monitor: str | None, known: list[str]) -> None:
    if monitor is not None and monitor not in known:
        raise UserError(f"runner.monitor is {monitor!r}; expected one of the metrics {', '.join(known)}")


def _write_report(runner: Runner) -> None:
    """Write the report of a run that is done; whatever goes wrong with it is told, and the run is not the worse."""
    folder, reporter = runner.folder, runner.reporter
    try:
        from tasks.report.report import write_report
        from tasks.report.run_reading import read_run

        write_report(read_run(folder.path), runner.config, runner.accelerator, folder.report)
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        reporter.say(f"warning: no report was written ({reason}); try python tools/report.py {folder.path}")


def _conclude(reporter: Reporter, folder: RunFolder, source: Path) -> None:
    """Where the pictures are, and what a person would want next."""
    run = folder.path
    pictures = sum(file.is_file() for file in folder.pictures.rglob("*"))  # in folders, of several sources
    reporter.say(f"\n{pictures} pictures of validation images and metrics: {folder.pictures}")
    reporter.say(f"checkpoints: {folder.checkpoints}   log: {folder.metrics}")
    if folder.report.exists():
        reporter.say(f"report, to be opened in a browser: {folder.report}")
    reporter.say("\nnext:")
    reporter.say(f"  python tools/predict.py {run} IMAGES          # on your own images, folder or glob")
    reporter.say(f"  python tools/evaluate.py {run}                # the same table again, of the best checkpoint")
    reporter.say(f"  python tools/train.py {source} --init {run} --data.root FOLDER   # go on with your own data")
