"""Scores what exists: a trained run on its validation data, or a COCO results file."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from tasks.checkpoint import load_checkpoint
from tasks.checkpoint_fit import load_weights_strictly, require_same_image, require_same_labels
from tasks.config import Experiment
from tasks.detection.coco_metric import score_results_file
from tasks.device import build_accelerator
from tasks.evaluation import show_metrics
from tasks.head_choice import heads_to_use, learning_heads
from tasks.inference import Predictor
from tasks.joint_evaluation import build_evaluator
from tasks.model import build_model
from tasks.output import write_whole
from tasks.progress import Reporter
from tasks.sources import open_sources, source_labels


def score_run(run: Path, config: Experiment, out: Path | None, only: Sequence[str] = ()) -> dict[str, float]:
    """Score the best checkpoint of a run on the validation split of `config`, and print the table.

    Args:
        run: a run folder or a checkpoint.
        config: the run's own experiment, with whatever the user has changed, such as `data.root`.
        out: json file to write the metrics to.
        only: heads to score; empty: all that have learned in the run.

    Raises:
        UserError: the checkpoint, the data, or the two together cannot be used.
    """
    only = only or learning_heads(config)
    checkpoint, config = load_checkpoint(run, prefer_best=True).keep(only), heads_to_use(config, only)
    accelerator = build_accelerator(config.runner)
    reporter = Reporter(accelerator.is_main_process)
    sources, messages = open_sources(config)
    for message in messages:
        reporter.say(message)
    labels = source_labels(sources)
    require_same_labels(checkpoint, labels)
    require_same_image(checkpoint, config)
    model = build_model(config, labels)
    load_weights_strictly(model, checkpoint.weights(), checkpoint.folder)
    model.to(accelerator.device)
    where = ", ".join(
        f"{len(source.val)} images of {source.name and source.name + '/'}{source.val.split!r}" for source in sources
    )
    reporter.say(f"{checkpoint.folder}, step {checkpoint.step}, on {where}")
    evaluator = build_evaluator(config, sources, labels, accelerator, model.divisor)
    metrics = evaluator.evaluate(Predictor([model], config.inference), reporter)
    if accelerator.is_main_process:
        _show(reporter, metrics, out, evaluator.notes())
    return metrics


def score_file(annotations: Path, results: Path, kind: Literal["bbox", "segm"], out: Path | None) -> dict[str, float]:
    """Score a COCO results file on its annotations, and print the table. Raises `UserError` for unusable files."""
    metrics = {f"{kind}/{name}": value for name, value in score_results_file(annotations, results, kind).items()}
    _show(Reporter(), metrics, out)
    return metrics


def _show(reporter: Reporter, metrics: dict[str, float], out: Path | None, notes: list[str] | None = None) -> None:
    show_metrics(reporter, metrics, notes)
    if out is not None:
        write_whole(out, lambda file: file.write_text(json.dumps(metrics, indent=1), encoding="utf-8"))
        reporter.say(f"written to {out}")
