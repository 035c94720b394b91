"""Parameters that do not train though the config does not say so, and the other way round."""

from collections.abc import Iterator

from tasks.checking.finding import Finding, Kind, some
from tasks.checking.network import Network
from tasks.optim import count_steps

FROZEN_UNSAID = Kind(
    "frozen-unsaid",
    "warning",
    "A parameter does not train, and nothing in the config says so (`backbone.frozen_stages`, `model.train_only`).",
    "It stays at its initial value; with random weights that is noise.",
)
TRAINED_UNSAID = Kind(
    "trained-unsaid",
    "error",
    "A parameter of a stage that `backbone.frozen_stages` freezes trains.",
    "The stage is not what the config says it is.",
)
BACKBONE_NEVER_TRAINS = Kind(
    "backbone-never-trains",
    "warning",
    "`schedule.freeze_backbone_epochs` or `optimizer.backbone_lr_factor` keep the whole backbone as it is to the end.",
    "Only the heads learn. That may be meant, with good weights.",
)


def frozen(network: Network) -> Iterator[Finding]:
    """Compare what trains with what the config says."""
    model, config = network.model, network.config
    stages = config.backbone.frozen_stages or getattr(model.backbone, "frozen_stages", 0) or 0
    said = {
        f"backbone.{name}"
        for name, _ in model.backbone.named_parameters()
        if stages and model.backbone.stage_of(name) < stages
    }
    if config.model.train_only:
        learning = tuple(f"heads.{head}." for head in config.model.train_only)
        said |= {name for name, _ in model.named_parameters() if not name.startswith(learning)}
    trains = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
    unsaid = [name for name, learns in trains.items() if not learns and name not in said]
    if unsaid:
        yield Finding(
            FROZEN_UNSAID,
            f"{len(unsaid)} of {len(trains)} parameters: {some(_modules(unsaid))}",
            "parameters that train, or backbone.frozen_stages that says which do not",
            "set requires_grad to True where the network is built, or say in the config what is frozen",
        )
    contrary = [name for name, learns in trains.items() if learns and name in said]
    if contrary:
        yield Finding(
            TRAINED_UNSAID,
            f"{len(contrary)} parameters: {some(_modules(contrary))}; backbone.frozen_stages is {stages}",
            "frozen stages that do not train",
            "let the network take the option frozen_stages, or set it to 0",
        )


def never(network: Network) -> Iterator[Finding]:
    """A backbone that never trains."""
    config, trains = network.config, any(each.requires_grad for each in network.model.backbone.parameters())
    epochs = count_steps(network.steps_per_epoch, config.schedule) / network.steps_per_epoch
    if trains and config.schedule.freeze_backbone_epochs >= epochs:
        yield Finding(
            BACKBONE_NEVER_TRAINS,
            f"schedule.freeze_backbone_epochs is {config.schedule.freeze_backbone_epochs}, and training takes "
            f"{epochs:g} epochs",
            "fewer epochs with a frozen backbone than there are",
            "lower schedule.freeze_backbone_epochs, or train longer",
        )
    elif trains and config.optimizer.backbone_lr_factor == 0:
        yield Finding(
            BACKBONE_NEVER_TRAINS,
            "optimizer.backbone_lr_factor is 0",
            "a rate above 0",
            "set it to 0.1 or 1, unless the backbone is to stay as it is",
        )


def _modules(parameters: list[str]) -> list[str]:
    return list(dict.fromkeys(name.rpartition(".")[0] for name in parameters))
