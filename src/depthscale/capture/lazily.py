"""Packages whose ``__init__`` runs when something of it is asked for: one model costs one module, not its library.

``import timm`` reads two hundred modules of models and all of torchvision, which reads torch's compiler: most of the
time of a check. Inside ``lazily`` a package is there at once, its submodules can be imported as ever, and whatever
else is looked up in it first runs its ``__init__``, in the same module object, so that nothing that holds it can tell.
"""

import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

Names = Mapping[str, tuple[str, ...]]  # packages, each with submodules that have what is most often asked for


_ASKED = ("__all__", "__version__")


class _Package(ModuleType):
    """A package that has not been run: an attribute that it lacks is in one of its parts, or runs it."""

    def __getattr__(self, name: str) -> Any:
        waiting = vars(self).get("_depthscale_waiting")
        special = name.startswith("__") and name not in _ASKED  # by whoever looks at modules, and never there
        if special or waiting is None:
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        if waiting.finder.open:
            for home in waiting.parts:
                part = import_module(f"{self.__name__}.{home}")
                if name in vars(part):
                    return vars(part)[name]
            if name not in _ASKED and find_spec(f"{self.__name__}.{name}") is not None:
                return import_module(f"{self.__name__}.{name}")
        complete(self)
        return getattr(self, name)

    def __dir__(self) -> list[str]:
        complete(self)
        return sorted(vars(self))


_running = threading.RLock()


def complete(package: ModuleType) -> None:
    """Runs the ``__init__`` of a lazy package, those around it first; others are left alone."""
    with _running:
        around, _, _ = package.__name__.rpartition(".")
        if around in sys.modules:
            complete(sys.modules[around])
        waiting = vars(package).pop("_depthscale_waiting", None)
        if waiting is not None:
            try:
                waiting.own.exec_module(package)
            except BaseException:
                vars(package)["_depthscale_waiting"] = waiting  # half a package would lack names for good
                raise


class _Waiting(Loader):
    """Makes the module, and leaves running it for later."""

    def __init__(self, own: Any, parts: tuple[str, ...], finder: "_Finder") -> None:
        self.own, self.parts, self.finder = own, parts, finder

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return _Package(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        assert module.__spec__ is not None  # the import system sets it
        module.__loader__ = module.__spec__.loader = self.own
        vars(module)["_depthscale_waiting"] = self


class _Finder(MetaPathFinder):
    def __init__(self, names: Names) -> None:
        self.names, self.open = names, True

    def find_spec(self, name: str, path: Any = None, target: ModuleType | None = None) -> ModuleSpec | None:
        if name not in self.names:
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is None or spec.loader is None or spec.submodule_search_locations is None:
            return None
        spec.loader = _Waiting(spec.loader, self.names[name], self)
        return spec


@contextmanager
def lazily(names: Names) -> Iterator[None]:
    """Inside, these packages are imported without being run, where nobody has imported them before.

    They stay as they are afterwards, until something that they lack is looked up. Those that an earlier use of this
    left unrun go on from here: running one in the middle of an import of its own parts would fail.
    """
    finder = _Finder(names)
    for name in names:
        waiting = vars(sys.modules[name]).get("_depthscale_waiting") if name in sys.modules else None
        if waiting is not None:
            waiting.finder = finder
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        finder.open = False
        sys.meta_path.remove(finder)


# --- models of libraries ------------------------------------------------------------------------------------------


class _Library(NamedTuple):
    """Where a library has its models: the package of their modules, what says which are known, and what makes them."""

    models: str
    known: tuple[str, Callable[[ModuleType, str], bool]]
    make: tuple[str, str]


_LAZY: Names = {
    "timm": ("version",),
    "timm.models": (),
    "timm.data": ("constants",),
    "torchvision": ("version",),
    "torchvision.models": (),
    "torchvision.ops": (),
}
_LIBRARIES = {
    "timm": _Library("timm.models", ("_registry", lambda m, name: m.is_model(name)), ("_factory", "create_model")),
    "torchvision": _Library(
        "torchvision.models", ("_api", lambda m, name: name in m.BUILTIN_MODELS), ("_api", "get_model")
    ),
}


def one_of(library: str, name: str) -> Callable[..., Any] | None:
    """What makes a library's models by name, of which only the module is imported that defines this one.

    None where that does not work: the library is there already, or is not, or the model is not found so easily.
    """
    own = _LIBRARIES[library]
    if not all(_waiting(package) for package in (library, own.models)):
        return None
    architecture = name.partition(".")[0]  # timm: pretrained weights have a name behind it
    try:
        module = _defining(library, own.models.rpartition(".")[2], architecture)
        if module is None:
            return None
        with lazily(_LAZY):
            import_module(f"{own.models}.{module}")
            home, knows = own.known
            if not knows(import_module(f"{own.models}.{home}"), name):
                return None
            home, maker = own.make
            found: Callable[..., Any] = getattr(import_module(f"{own.models}.{home}"), maker)
            return found
    except Exception:  # whatever another version is like: all of it is imported instead
        return None


def _waiting(name: str) -> bool:
    """Whether a package has not been run."""
    return name not in sys.modules or "_depthscale_waiting" in vars(sys.modules[name])


def _defining(library: str, folder: str, function: str) -> str | None:
    """The one module in a folder of a library that defines a function of this name, by its text."""
    home = PathFinder.find_spec(library)
    places = list(home.submodule_search_locations or ()) if home is not None else []
    if len(places) != 1 or not function.isidentifier():
        return None
    wanted = f"\ndef {function}(".encode()
    files = [f.stem for f in Path(places[0], folder).glob("[a-z]*.py") if wanted in f.read_bytes()]
    return files[0] if len(files) == 1 else None


__all__ = ["complete", "lazily", "one_of"]
