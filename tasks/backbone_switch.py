"""What becomes of a config's backbone options and weights where another backbone takes the place of its own."""

from collections.abc import Sequence

from tasks.command_line import given
from tasks.config import Experiment


def leave_out_foreign_options(config: Experiment, base: Experiment, argv: Sequence[str]) -> None:
    """The config chose its backbone options for its own backbone; another one named here may not know them all.

    Those that it does not take are left out, and said so; those given on the command line stay, and are checked.
    """
    from backbones import backbones
    from tasks.plugins import import_plugins
    from tasks.progress import Reporter

    import_plugins(config.plugins)
    left_out = []
    for option, value in base.backbone.factory_options().items():
        free = option in base.backbone.options
        asked = given(argv, f"backbone.options.{option}" if free else f"backbone.{option}")
        if asked or backbones.accepts(config.backbone.name, option):
            continue
        if free:
            config.backbone.options.pop(option)
        else:
            setattr(config.backbone, option, None)
        left_out.append(f"{option}={value}")
    if config.backbone.weights == base.backbone.weights and base.backbone.weights is not None:
        config.backbone.weights = own_weights(base.backbone.weights, base.backbone.name, config.backbone.name)
        left_out.append(f"weights={base.backbone.weights}")
        if config.backbone.weights:
            left_out[-1] += f" (now {config.backbone.weights})"
    if left_out:
        Reporter().say(
            f"backbone {config.backbone.name}: left out {', '.join(left_out)}, chosen for {base.backbone.name}"
        )


def own_weights(weights: str, before: str, now: str) -> str | None:
    """torchvision's weights of the backbone `now`, or timm's of one of timm's networks, if it has them and the config
    took its own ones from there too.
    """
    import torchvision

    if now.startswith("timm/") and weights == f"torchvision/{before}":
        import timm

        return now if timm.list_pretrained(now.removeprefix("timm/") + ("" if "." in now else ".*")) else None
    has = weights == f"torchvision/{before}" and now in torchvision.models.list_models(torchvision.models)
    return f"torchvision/{now}" if has else None
