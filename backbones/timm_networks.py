"""What timm has: its networks by name, the keywords they take, and how its files name their parameters."""

import dataclasses
import difflib
import inspect
import sys
import typing
from collections.abc import Collection, Iterator
from functools import cache
from typing import Any, cast

import torch
from torch import Tensor, nn

from backbones.errors import UserError


def require_network(name: str) -> None:
    """Raise `UserError` with the nearest names unless timm has the network `name`, or `name.tag`."""
    import timm

    network, _, tag = name.partition(".")
    tags = [entry.partition(".")[2] for entry in timm.list_pretrained(f"{network}.*")]
    if network not in timm.list_models() or (tag and tag not in tags):
        known = [f"{network}.{other}" for other in tags] or timm.list_models()
        near = difflib.get_close_matches(name, known, n=3, cutoff=0.5) or known[:3]
        raise UserError(
            f"backbone 'timm/{name}' is none of timm's {len(timm.list_models())} networks; did you mean "
            f"{', '.join(f'timm/{other}' for other in near)}?"
        )


def network_names(pattern: str) -> list[str]:
    """timm's networks whose names match a pattern such as `convnext_*`."""
    import timm

    return list(timm.list_models(pattern))


def create(name: str, **options: Any) -> nn.Module:
    """`timm.create_model` with random weights.

    Raises:
        UserError: timm does not build it, with the reason.
    """
    import timm

    try:
        network: nn.Module = timm.create_model(name, **options)
    except Exception as error:  # whatever a constructor makes of options
        raise UserError(f"timm/{name}: timm cannot build it ({first_line(error)}); change backbone.options") from error
    return network


@cache
def keywords(name: str) -> dict[str, inspect.Parameter]:
    """Keywords that a network may be given: of its class and, where it has one, of its configuration.

    Raises:
        UserError: timm does not give feature maps of it.
    """
    from timm.models import FeatureDictNet, FeatureGraphNet, FeatureHookNet

    found: dict[str, inspect.Parameter] = {}
    with torch.device("meta"):
        networks = [create(name), create(name, features_only=True)]
    for network in networks:
        kind = type(network)
        if issubclass(kind, FeatureDictNet | FeatureHookNet | FeatureGraphNet) or kind.__name__ == "FeatureGetterNet":
            continue  # timm's wrappers around networks
        found |= inspect.signature(kind).parameters
        configuration = typing.get_type_hints(kind.__init__).get("cfg")
        if dataclasses.is_dataclass(configuration):
            found |= inspect.signature(cast(type, configuration)).parameters
    keyword = inspect.Parameter.KEYWORD_ONLY
    # Those without a default are what makes it this network.
    return {option: p.replace(kind=keyword) for option, p in found.items() if p.default is not inspect.Parameter.empty}


def native_size(name: str) -> tuple[int, int]:
    """Height and width of the images that the published weights were trained on."""
    import timm

    config = timm.get_pretrained_cfg(name)
    height, width = config.input_size[-2:] if config is not None else (224, 224)
    return height, width


def stage_numbers(network: nn.Module) -> dict[str, int]:
    """The stage of each parameter as timm counts for learning rates: a stem, blocks, what comes behind them."""
    from timm.models import group_parameters

    matcher: Any = network.group_matcher
    stages: dict[str, int] = group_parameters(network, matcher(coarse=True), reverse=True)
    return stages


def converted(weights: dict[str, Tensor], whole: nn.Module, own: Collection[str]) -> dict[str, Tensor]:
    """A file in timm's layout by the names `own` of a network that gives feature maps.

    Old files and embeddings of other sizes are brought into shape by timm's own function for that.

    Args:
        weights: of the file.
        whole: the network as it is for labels; shapes are enough.
        own: names of parameters and buffers.
    """
    convert = getattr(sys.modules[type(whole).__module__], "checkpoint_filter_fn", None)
    if convert is not None:
        try:
            weights = convert(dict(weights), whole)
        except Exception:  # a file of something else, of which the caller tells that nothing fits
            return weights
    return {next((new for new in _renamed(name) if new in own), name): x for name, x in weights.items()}


def _renamed(name: str) -> Iterator[str]:
    """What a parameter may be called in `net`, where what gives feature maps is wrapped, or flattened by a level."""
    name = name.removeprefix("encoder.model.")  # in segmentation-models-pytorch
    first, _, rest = name.partition(".")
    yield from (f"net.{name}", f"net.body.{name}", f"net.model.{name}", f"net.{first}_{rest}")


def first_line(error: Exception) -> str:
    """The message of an error, cut short."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
