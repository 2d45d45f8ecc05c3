"""Factories of the user's own, named ``module:factory`` in a config.

A module is taken from the working directory, from beside the config that the user names, or as installed, but never
from a run directory: loading somebody's run runs none of their code.
"""

import importlib
import importlib.util
import re
import sys
import traceback
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

from metarl_jax.checks import did_you_mean
from metarl_jax.config.errors import ConfigError, show

_REMEDY = "work in the folder that holds your module, or set PYTHONPATH to it; no code is taken from a run directory"
_COMPONENT = re.compile(r"([^\W\d]\w*(?:\.[^\W\d]\w*)*):([^\W\d]\w*)")


def is_component(name: object) -> bool:
    """Whether a name means a factory from outside the catalogue.

    Example:
      >>> is_component("my_tasks:rail_mass"), is_component("navigation_finn")
      (True, False)
    """
    return isinstance(name, str) and ":" in name


def is_run(folder: Path) -> bool:
    """Whether a folder is a run directory.

    Returns:
      True if training has written its config and checkpoints there.

    Example:
      >>> is_run(Path("configs"))
      False
    """
    return (folder / "config.yaml").is_file() and (folder / "checkpoints").is_dir()


def find_component(name: str, folders: Sequence[Path] = ()) -> Callable[..., Any]:
    """Import a user's factory.

    Args:
      name: ``module:factory``; the module may be dotted.
      folders: where to look before what is installed, the first first.

    Returns:
      What the module calls so.

    Raises:
      ConfigError: if there is no such module or factory, or the module cannot be imported, with the file and the line.

    Example:
      >>> find_component("metarl_jax.tasks:navigation_finn").__name__
      'navigation_finn'
    """
    match = _COMPONENT.fullmatch(name)
    if not match:
        raise ConfigError(f"must be MODULE:FACTORY, as in my_tasks:rail_mass (got {show(name)})")
    module_name, attribute = match.groups()
    module = _import(module_name, list(dict.fromkeys(folder.absolute() for folder in folders)))
    factory = getattr(module, attribute, None)
    if not callable(factory):
        names = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        where = getattr(module, "__file__", None) or module_name
        raise ConfigError(f"{where} has no factory {attribute!r}{did_you_mean(attribute, names)}")
    return factory


def _import(name: str, folders: Sequence[Path]) -> ModuleType:
    """Import a dotted name, each part only once it is known to lie in no run directory."""
    spec = _find(name.partition(".")[0], folders)
    module = _load(spec)
    for end in [dot.start() for dot in re.finditer(r"\.|$", name)][1:]:
        part = PathFinder.find_spec(name[:end], getattr(module, "__path__", []))
        if part is None:
            raise ConfigError(f"there is no module {name[:end]!r} in {_source(spec)}")
        module = _load(part)
    return module


def _find(top: str, folders: Sequence[Path]) -> ModuleSpec:
    """Find a module or package: as Python does, a folder that is no package only counts where there is nothing else."""
    if top in sys.stdlib_module_names:
        raise ConfigError(f"{top!r} is a module of Python's own: give your file another name")
    usable = [folder for folder in folders if _run_around(folder) is None]
    found = [spec for folder in usable if (spec := PathFinder.find_spec(top, [str(folder)]))]
    local = next((spec for spec in found if spec.has_location), None)
    loaded = getattr(sys.modules.get(top), "__spec__", None)
    if local and loaded and _source(local) != _source(loaded):
        raise ConfigError(f"there are two modules {top!r}, {local.origin} and {loaded.origin} (in use): rename one")
    spec = local or loaded or (importlib.util.find_spec(top) if top not in sys.modules else None)
    if spec is None and not found:
        looked = "".join(f"in {folder}, " for folder in usable)
        raise ConfigError(f"there is no module {top!r} (looked {looked}and among what is installed): {_REMEDY}")
    return spec or found[0]


def _load(spec: ModuleSpec) -> ModuleType:
    """Import exactly what was found."""
    source = _source(spec)
    if source is not None and (run := _run_around(source)):
        raise ConfigError(f"module {spec.name!r} lies in the run directory {run}: {_REMEDY}")
    try:
        return importlib.import_module(spec.name) if "." in spec.name else _execute(spec, source)
    except (Exception, SystemExit) as error:
        raise ConfigError(f"module {spec.name!r} cannot be imported: {_mistake(error, source or Path())}") from None


def _execute(spec: ModuleSpec, source: Path | None) -> ModuleType:
    """Run a top-level module; what it imports is looked up beside it after all that is installed."""
    if spec.name in sys.modules:
        return sys.modules[spec.name]
    if source is not None and str(source.parent) not in sys.path:
        sys.path.append(str(source.parent))
    sys.modules[spec.name] = module = importlib.util.module_from_spec(spec)
    try:
        if spec.loader is not None:
            spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[spec.name]
        raise
    return module


def _source(spec: ModuleSpec) -> Path | None:
    """A module's file, or a package's folder."""
    if spec.submodule_search_locations:
        return Path(next(iter(spec.submodule_search_locations))).absolute()
    return Path(spec.origin).absolute() if spec.has_location and spec.origin else None


def _run_around(path: Path) -> Path | None:
    """The run directory that a file or folder lies in, by its name or through links."""
    return next((folder for p in (path, path.resolve()) for folder in (p, *p.parents) if is_run(folder)), None)


def _mistake(error: BaseException, source: Path) -> str:
    """What the user did wrong, and the last line of their code on the way to it."""
    what = f"{type(error).__name__}: {error}"
    if isinstance(error, SyntaxError):
        return f"{error.filename}, line {error.lineno}: {type(error).__name__}: {error.msg}"
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        file = Path(frame.filename)
        if file.is_relative_to(source.parent) and "site-packages" not in file.relative_to(source.parent).parts:
            return f"{file}, line {frame.lineno}: {what}"
    return what
