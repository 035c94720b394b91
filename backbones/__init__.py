"""Images in, named feature maps out. `from backbones import Backbone, FeatureSpec, register_backbone`."""

from importlib import import_module
from typing import TYPE_CHECKING

from backbones.errors import UserError

if TYPE_CHECKING:
    from backbones.contract import Backbone, FeatureSpec, backbones, build_backbone, register_backbone
    from backbones.weights import LoadReport, load_weights

__all__ = [
    "Backbone",
    "FeatureSpec",
    "LoadReport",
    "UserError",
    "backbones",
    "build_backbone",
    "load_weights",
    "register_backbone",
]


def __getattr__(name: str) -> object:
    """The names above on first use: they need torch, which takes longer to import than `--help` should to answer."""
    if name not in __all__:
        raise AttributeError(f"module 'backbones' has no attribute {name!r}")
    import_module("backbones.resnet")  # registers resnet18 to resnet152
    import_module("backbones.preactivation")
    import_module("backbones.cifar_resnet")
    import_module("backbones.densenet")
    import_module("backbones.highway")
    import_module("backbones.timm_backbone")  # and all that begin with timm/
    home = "backbones.weights" if name in ("LoadReport", "load_weights") else "backbones.contract"
    return getattr(import_module(home), name)
