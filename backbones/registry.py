"""Names for things a user can choose or add: backbones, heads, readers.

    @register_backbone("my_net")
    class MyNet(Backbone): ...

A package makes its own known without being imported first by declaring an entry point:

    [project.entry-points."polyhead.backbones"]
    my_net = "my_package.net:MyNet"
"""

import contextlib
import difflib
import inspect
from collections.abc import Callable
from importlib.metadata import entry_points
from typing import Any, ClassVar, Generic, TypeVar

from backbones.errors import UserError
from backbones.option_types import wrong_type

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])


class Registry(Generic[T]):
    """A table from names to factories of `T`, with installed entry points as its second page.

    Args:
        kind: what is registered, for messages: "backbone".
        group: the entry-point group that other packages may fill: "polyhead.backbones".
    """

    instances: ClassVar[list["Registry[Any]"]] = []

    def __init__(self, kind: str, group: str) -> None:
        self.kind = kind
        self.group = group
        self._factories: dict[str, Callable[..., T]] = {}
        self._prefixes: dict[str, Callable[[str], Callable[..., T]]] = {}
        Registry.instances.append(self)

    def register(self, name: str) -> Callable[[F], F]:
        """Decorator that files a class or function under `name`.

        Raises:
            ValueError: the name is taken by another factory.
        """

        def file(factory: F) -> F:
            taken = self._factories.get(name)
            # The same definition seen twice (a module run as a script and imported, a reload) is not a clash.
            if taken is not None and (taken.__module__, taken.__qualname__) != (
                factory.__module__,
                factory.__qualname__,
            ):
                raise ValueError(
                    f"{self.kind} {name!r} is already registered by {taken.__module__}.{taken.__qualname__}"
                )
            self._factories[name] = factory
            return factory

        return file

    def register_prefix(self, prefix: str) -> Callable[[F], F]:
        """Decorator for a function that makes factories of all names that begin with `prefix`, without listing them.

        It is given the rest of the name and raises `UserError` where nothing is called that. `names` leaves them out.
        """

        def file(factory_of: F) -> F:
            self._prefixes[prefix] = factory_of
            return factory_of

        return file

    def names(self) -> list[str]:
        """All known names, those of installed entry points included, sorted."""
        return sorted({*self._factories, *(point.name for point in entry_points(group=self.group))})

    def modules(self) -> set[str]:
        """Modules whose factories have been registered by now."""
        return {factory.__module__ for factory in self._factories.values()}

    def factory(self, name: str) -> Callable[..., T]:
        """The factory filed under `name`, or made for its prefix, loading its entry point if need be.

        Raises:
            UserError: nobody registered `name`, or its entry point cannot be imported.
        """
        if name not in self._factories:
            for prefix, factory_of in self._prefixes.items():
                if name.startswith(prefix):
                    return factory_of(name.removeprefix(prefix))
            points = [point for point in entry_points(group=self.group) if point.name == name]
            if not points:
                near = self._with_prefix(name) or difflib.get_close_matches(name, self.names(), n=3, cutoff=0.5)
                known = (*self.names(), *(f"{prefix}..." for prefix in self._prefixes))
                remedy = f"did you mean {', '.join(near)}?" if near else f"choose one of {', '.join(known)}"
                raise UserError(f"{self.kind} {name!r} is not registered; {remedy}")
            try:
                self._factories[name] = points[0].load()
            except Exception as error:
                reason = f"{type(error).__name__}: {error}"
                raise UserError(
                    f"{self.kind} {name!r}: its entry point {points[0].value} failed to load ({reason})"
                ) from error
        return self._factories[name]

    def _with_prefix(self, name: str) -> list[str]:
        """Names that somebody who gave `name` may have meant: with the prefixes under which there is such a one."""
        found = []
        for prefix, factory_of in self._prefixes.items():
            with contextlib.suppress(UserError):
                factory_of(name)
                found.append(f"{prefix}{name}")
        return found

    def accepts(self, name: str, option: str) -> bool:
        """Whether the factory of `name` takes the keyword `option`."""
        parameters = inspect.signature(self.factory(name)).parameters
        return option in parameters or any(p.kind is p.VAR_KEYWORD for p in parameters.values())

    def build(self, name: str, /, *args: Any, **options: Any) -> T:
        """Call the factory filed under `name`.

        Raises:
            UserError: the name is unknown; the factory does not take these options, and the message shows what it
                takes; or one is of another type than it declares.
        """
        factory = self.factory(name)
        signature = inspect.signature(factory)
        try:
            signature.bind(*args, **options)
        except TypeError as error:
            raise UserError(f"{self.kind} {name!r}: {error}; it takes {name}{signature}") from None
        problem = wrong_type(factory, options)
        if problem:
            raise UserError(f"{self.kind} {name!r}: {problem}")
        return factory(*args, **options)
