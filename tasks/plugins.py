"""Python files and modules of the user's that register backbones, heads or readers when they are imported."""

import importlib
import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from backbones.errors import UserError
from backbones.registry import Registry
from tasks.seeding import derive_seed

OWN_PACKAGES = {"backbones", "heads", "tasks"}


def import_plugins(plugins: Sequence[str]) -> None:
    """Import each plug-in once: a module by its name, or a file ending in .py by its path.

    Raises:
        UserError: one is not there or fails to import.
    """
    for plugin in plugins:
        try:
            if not plugin.endswith(".py"):
                importlib.import_module(plugin)
            elif _module_name(Path(plugin)) not in sys.modules:
                import_file(Path(plugin))
        except Exception as error:
            raise UserError(
                f"plugins: {plugin} cannot be imported ({type(error).__name__}: {error}); "
                "it registers a part of this experiment, so give its place with --plugins"
            ) from error


def import_file(path: Path) -> ModuleType:
    """Run a Python file as a module; the files beside it can be imported from it, as from a script."""
    name = _module_name(path)
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    if (folder := str(path.resolve().parent)) not in sys.path:
        sys.path.append(folder)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def registering_modules() -> set[str]:
    """Modules outside this project that have registered something by now."""
    modules = {module for registry in Registry.instances for module in registry.modules()}
    return {module for module in modules if module.split(".")[0] not in OWN_PACKAGES}


def _module_name(path: Path) -> str:
    return f"polyhead_config_{path.stem}_{derive_seed(str(path.resolve())):x}"
