"""Images in, named feature maps out. `from backbones import Backbone, FeatureSpec, register_backbone`."""

from backbones.contract import Backbone, FeatureSpec, backbones, register_backbone
from backbones.errors import UserError

__all__ = ["Backbone", "FeatureSpec", "UserError", "backbones", "register_backbone"]
