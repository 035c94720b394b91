"""Results of a run that were not kept: its best checkpoint is scored once more."""

from dataclasses import replace

from accelerate.accelerator import Accelerator

from tasks.checkpoint import load_checkpoint, require_same_labels
from tasks.config import Experiment
from tasks.data.splits import open_splits
from tasks.evaluation import Evaluator
from tasks.head_choice import heads_to_use, learning_heads
from tasks.kinds import head_labels, wanted_targets
from tasks.output import writing
from tasks.predicting import load_predictor
from tasks.progress import Reporter
from tasks.report.run_reading import Run


def kept(run: Run) -> bool:
    """Whether the results of the best checkpoint lie with the run, for every head that learns."""
    return set(run.results) == set(learning_heads(run.config)) and all(
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
    _, val, _ = open_splits(config.data, config.runner.seed, wanted_targets(config))
    labels = head_labels(config, val)
    require_same_labels(checkpoint, labels)
    predictor, divisor = load_predictor([checkpoint], accelerator)
    evaluator = Evaluator(config, val, labels, accelerator, divisor)
    metrics = evaluator.evaluate(predictor, reporter)
    found = evaluator.results(checkpoint.step, metrics)
    with writing(run.folder.results):
        for results in found:
            results.save(run.folder.results)
    return replace(run, results={results.head: results for results in found})
