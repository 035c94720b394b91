"""Trains networks of several depths by one recipe and measures what depth did to them.

runs/study_depth/
    cifar_plain20/   a run for each network, as tools/train.py writes it
    study.json       what was measured
    study.html       the same as a page
"""

import json
import re
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import torch
from accelerate.accelerator import Accelerator
from accelerate.state import AcceleratorState

from backbones import UserError, backbones
from tasks.checkpoint import latest_checkpoint, load_checkpoint
from tasks.checkpoint_fit import load_weights_strictly
from tasks.config import AugmentConfig, ClassificationConfig, Experiment
from tasks.data.annotations import Annotations
from tasks.data.loader import TrainingLoader
from tasks.data.splits import open_splits
from tasks.depth_study.gradient_flow import LayerGradient, gradient_flow
from tasks.depth_study.measured import Measured
from tasks.depth_study.page import write_page
from tasks.evaluation import Evaluator
from tasks.inference import Predictor
from tasks.inventory import parameters
from tasks.kinds import head_labels, wanted_targets
from tasks.label_map import LabelMap
from tasks.model import Model, build_model
from tasks.output import write_whole
from tasks.predicting import accelerator_for
from tasks.progress import Reporter
from tasks.run_folder import RunFolder
from tasks.seeding import derive_seed
from tasks.training import train_or_resume

# Fields that may differ between runs that are compared; the same images may have been moved.
INDIFFERENT = {
    *("data.root", "data.workers"),
    *(f"runner.{field}" for field in ("device", "monitor", "save_every_minutes", "save_every_steps", "keep_last")),
    *(f"runner.{field}" for field in ("log_every", "pictures", "tensorboard", "evaluate_every")),
}


def study_depth(config: Experiment, networks: Sequence[str], *, out: Path | None = None) -> list[Measured]:
    """Train each network by the recipe of `config`, measure it, and write `study.json` and `study.html`.

    A network that was begun is resumed, one that is done is only measured, so the same command goes on after a stop.

    Args:
        config: the recipe: one head that gives each image one label; its backbone is replaced, its options kept.
        networks: registered names with their depth in them, such as "cifar_resnet20".
        out: folder of the runs; None is `runs/study_depth`.

    Raises:
        UserError: a name without a depth, a recipe for something else, or what training refuses.
        Interrupted: the user stopped a run.
    """
    heads = list(config.heads.values())
    if len(heads) != 1 or not isinstance(heads[0], ClassificationConfig) or heads[0].target != "single":
        raise UserError(
            f"heads holds {', '.join(config.heads) or 'nothing'}; the study compares classification errors: give a "
            "config with one classification head of target single, such as configs/cls/cifar_resnet20.py"
        )
    if not networks:
        raise UserError("networks is empty; expected registered networks with their depth in their names")
    networks = list(dict.fromkeys(networks))
    named = {network: _family_and_depth(network) for network in networks}
    root = out or Path("runs") / "study_depth"
    reporter = Reporter()
    for number, network in enumerate(networks, 1):
        reporter.notice(f"NETWORK {number} OF {len(networks)}: {network}", [str(root / network)])
        own, folder = _recipe(config, network), root / network
        if latest_checkpoint(folder / "checkpoints") is not None:
            _require_same_recipe(folder, own)
        train_or_resume(own, folder)
    # Each run chose device and precision by its config; measuring starts afresh.
    AcceleratorState._reset_state()
    accelerator = accelerator_for(config, config.runner.device)
    train, _, _ = open_splits(config.data, config.runner.seed, wanted_targets(config))
    found = []
    for network, (family, depth) in named.items():
        reporter.say(f"measuring {network}")
        found.append(_measure(_recipe(config, network), family, depth, root / network, train, accelerator, reporter))
    numbers = json.dumps([asdict(each) for each in found], indent=1)
    write_whole(root / "study.json", lambda file: file.write_text(numbers, encoding="utf-8"))
    write_whole(root / "study.html", lambda file: write_page(found, config, file))
    reporter.table(
        "depth and error",
        ("network", "parameters", "training error", "validation error"),
        [
            (
                each.network,
                f"{each.parameters / 1e6:.2f} M",
                f"{each.training_error:.2%}",
                f"{each.validation_error:.2%}",
            )
            for each in found
        ],
    )
    reporter.say(f"written to {root / 'study.html'}, the numbers to {root / 'study.json'}")
    return found


def _family_and_depth(network: str) -> tuple[str, int]:
    number = re.search(r"\d+", network)
    if number is None:
        raise UserError(f"networks: {network} has no number in its name; expected its depth there: cifar_resnet20, say")
    backbones.factory(network)
    return network.replace(number[0], "", 1), int(number[0])


def _recipe(config: Experiment, network: str) -> Experiment:
    own = config.model_copy(deep=True)
    own.name, own.backbone.name, own.backbone.weights = network, network, None
    return own


def _require_same_recipe(run: Path, config: Experiment) -> None:
    """Raise `UserError` when a network was begun by another recipe, which would make the comparison unfair."""
    before, now = (_decides(each) for each in (load_checkpoint(run, prefer_best=False).config, config))
    changed = [
        f"{field} is {now.get(field)}, was {before.get(field)}" for field in now if before.get(field) != now[field]
    ]
    if changed:
        raise UserError(
            f"{run}: was begun by another recipe ({', '.join(changed)}); expected one for all networks: give it as it "
            "was, or another --out"
        )


def _decides(config: Experiment) -> dict[str, str]:
    """What decides the result of a run, by field, such as "data.batch_size"."""
    sections = config.model_dump(mode="json", exclude={"name", "plugins", "metrics"})
    fields = {
        f"{section}.{field}": str(value) for section, values in sections.items() for field, value in values.items()
    }
    return {field: value for field, value in fields.items() if field not in INDIFFERENT}


def _measure(
    config: Experiment,
    family: str,
    depth: int,
    folder: Path,
    train: Annotations,
    accelerator: Accelerator,
    reporter: Reporter,
) -> Measured:
    labels = head_labels(config, train)
    head = next(iter(config.heads))
    torch.manual_seed(derive_seed(config.runner.seed, "initial weights"))
    model = build_model(config, labels).to(accelerator.device)
    at_start = _gradients(model, config, train, accelerator)
    checkpoint = load_checkpoint(folder, prefer_best=False)
    load_weights_strictly(model, checkpoint.weights(), checkpoint.folder)
    return Measured(
        network=config.backbone.name,
        family=family,
        depth=depth,
        parameters=parameters(model.backbone),
        training_error=1 - _accuracy(model, config, head, labels, train, accelerator, reporter),
        validation_error=1 - RunFolder(folder).evaluations()[-1]["metrics"][f"{head}/accuracy"],
        losses=[(record["step"], record["loss"]) for record in RunFolder(folder).records() if "loss" in record],
        at_start=at_start,
        at_end=_gradients(model, config, train, accelerator),
    )


def _accuracy(
    model: Model,
    config: Experiment,
    head: str,
    labels: dict[str, LabelMap],
    split: Annotations,
    accelerator: Accelerator,
    reporter: Reporter,
) -> float:
    evaluator = Evaluator(config, split, labels, accelerator, model.divisor)
    return evaluator.evaluate(Predictor([model], config.inference), reporter)[f"{head}/accuracy"]


def _gradients(model: Model, config: Experiment, split: Annotations, accelerator: Accelerator) -> list[LayerGradient]:
    """Of the first training batch, the same one for all networks, in float32."""
    data = config.data.model_copy(update={"augment": AugmentConfig(horizontal_flip=0), "workers": 0})
    loader = TrainingLoader(
        split, data, config.image, seed=config.runner.seed, divisor=model.divisor, wanted=wanted_targets(config)
    )
    return gradient_flow(model, next(loader.steps(0))[0].to(accelerator.device))
