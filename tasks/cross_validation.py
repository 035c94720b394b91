"""Cross-validation: a run for each fold, scored together on images that none of them was trained on."""

import json
import os
from pathlib import Path
from statistics import mean, stdev

from accelerate.state import AcceleratorState

from backbones.errors import UserError
from tasks.checkpoint import latest_checkpoint, load_checkpoint
from tasks.config import Experiment
from tasks.data.folds import make_folds
from tasks.data.splits import open_folds
from tasks.evaluation import Evaluator, show_metrics
from tasks.kinds import head_labels, wanted_targets
from tasks.predicting import accelerator_for, load_predictor
from tasks.progress import Reporter
from tasks.training import train_or_resume

DEALT_BY = ("format", "train", "val", "folds", "fold", "group_by")


def cross_validate(config: Experiment, *, out: Path | None = None, source: Path | None = None) -> dict[str, float]:
    """Train on all folds but one, for each one in turn, and return the out-of-fold metrics.

    Every image is predicted by the model that has not seen it (nor, with groups, anything of its patient), with that
    model's last checkpoint, so that nothing is chosen on the images that are scored. The metrics are those of all
    predictions together; the mean and the standard deviation of the folds' own stand beside them, in
    `out/cross_validation.json`. A fold that was begun is resumed; one that is done is only scored.

    Args:
        config: the experiment; `data.folds` is the number of folds.
        out: folder of the runs `fold_0`, `fold_1`, ...; None takes `runs/<name>-<folds>-fold`.
        source: the file that `config` came from, for the commands shown.

    Raises:
        UserError: something given cannot be used.
        Interrupted: the user stopped a run; the same command goes on.
    """
    count = config.data.folds
    if count is None:
        raise UserError("data.folds is not set; give the number of folds, such as --data.folds 5")
    root = out or Path("runs") / f"{config.name}-{count}-fold"
    for fold in range(count):
        folder = root / f"fold_{fold}"
        own = _fold(config, fold)
        if latest_checkpoint(folder / "checkpoints") is not None:
            _require_same_folds(folder, own)
        # accelerate's own state would choose a device before the config has.
        Reporter(os.environ.get("RANK", "0") == "0").notice(f"FOLD {fold + 1} OF {count}", [str(folder)])
        train_or_resume(own, folder, source)
    # The folds were trained in the precision that the config asks for; scoring starts afresh.
    AcceleratorState._reset_state()
    accelerator = accelerator_for(config, config.runner.device)
    reporter = Reporter(accelerator.is_main_process)
    whole = open_folds(config.data, wanted_targets(config))
    labels = head_labels(config, whole)
    folds: list[dict[str, float]] = []
    pool: Evaluator | None = None
    for fold, rows in enumerate(make_folds(whole, count, config.runner.seed, config.data.group_by)):
        own, held_out = _fold(config, fold), whole.select(rows, f"{whole.split}-fold{fold}")
        checkpoint = load_checkpoint(root / f"fold_{fold}", prefer_best=False)
        predictor, divisor = load_predictor([checkpoint], accelerator, config.inference)
        pool = pool or Evaluator(config, whole, labels, accelerator, divisor)
        folds.append(Evaluator(own, held_out, labels, accelerator, divisor).evaluate(predictor, reporter, pool=pool))
    assert pool is not None
    metrics = pool.metrics(root / "pictures")
    if accelerator.is_main_process:
        show_metrics(reporter, metrics, pool.notes())
        _conclude(reporter, root, metrics, folds)
    return metrics


def _fold(config: Experiment, fold: int) -> Experiment:
    own = config.model_copy(deep=True)
    own.data.fold = fold
    return own


def _require_same_folds(run: Path, config: Experiment) -> None:
    """Raise `UserError` when a fold was begun with other images held out, which it may have been trained on."""
    before = load_checkpoint(run, prefer_best=False).config
    for name, then, now in (
        *((f"data.{field}", getattr(before.data, field), getattr(config.data, field)) for field in DEALT_BY),
        ("runner.seed", before.runner.seed, config.runner.seed),
    ):
        if then != now:
            raise UserError(
                f"{run}: was begun with {name} {then}, which is {now} now, so that other images would be held out; "
                "expected the same: give it as it was, or another --out for all folds"
            )


def _conclude(reporter: Reporter, root: Path, metrics: dict[str, float], folds: list[dict[str, float]]) -> None:
    """The spread between folds, as a table and as json, and what a person would want next."""
    summary = {}
    for name, value in metrics.items():
        measured = [fold[name] for fold in folds if fold[name] != -1]
        summary[name] = {
            "out_of_fold": value,
            "mean": mean(measured) if measured else -1.0,
            "std": stdev(measured) if len(measured) > 1 else 0.0,
            "folds": [fold[name] for fold in folds],
        }
    overall = {name: row for name, row in summary.items() if name.count("/") == 1}
    reporter.table(
        f"{len(folds)} folds",
        ("metric", "all images, out of fold", "mean of folds", "standard deviation"),
        [(name, *(f"{row[key]:.3f}" for key in ("out_of_fold", "mean", "std"))) for name, row in overall.items()],
    )
    file = root / "cross_validation.json"
    file.write_text(json.dumps(summary, indent=1), encoding="utf-8")
    reporter.say(f"written to {file}\n\nnext:")
    reporter.say(f"  python tools/predict.py {root} IMAGES   # all {len(folds)} models together")
