"""Results of a run that were not kept: its best checkpoint is scored once more."""

from dataclasses import replace

from accelerate.accelerator import Accelerator

from tasks.checkpoint import load_checkpoint
from tasks.checkpoint_fit import require_same_labels
from tasks.config import Experiment
from tasks.head_choice import heads_to_use, learning_heads
from tasks.joint_evaluation import build_evaluator
from tasks.output import writing
from tasks.predicting import load_predictor
from tasks.progress import Reporter
from tasks.report.run_reading import Run, result_names
from tasks.sources import open_sources, source_labels


def kept(run: Run) -> bool:
    """Whether the results of the best checkpoint lie with the run, for every head that learns."""
    return set(run.results) == set(result_names(run.config)) and all(
        results.step == run.best_step for results in run.results.values()
    )


def evaluate_again(run: Run, config: Experiment, accelerator: Accelerator, reporter: Reporter) -> Run:
    """The run with the results of its best checkpoint, which are kept with it from now on.

    Raises:
        UserError: the checkpoint or the data cannot be used, or the run folder cannot be written.
    """
    reporter.say(f"{run.folder.path}: the results of its best checkpoint are not kept with it; evaluating it")
    only = learning_heads(config)
    checkpoint, config = load_checkpoint(run.folder.path, prefer_best=True).keep(only), heads_to_use(config, only)
    sources, _ = open_sources(config)
    labels = source_labels(sources)
    require_same_labels(checkpoint, labels)
    predictor, divisor = load_predictor([checkpoint], accelerator)
    evaluator = build_evaluator(config, sources, labels, accelerator, divisor)
    metrics = evaluator.evaluate(predictor, reporter)
    found = evaluator.results(checkpoint.step, metrics)
    with writing(run.folder.results):
        for results in found:
            results.save(run.folder.results)
    return replace(run, results={results.head: results for results in found})
