"""The architecture as a test: imports point downwards only, and the pure layers stay pure."""

import ast
from pathlib import Path

import pytest

PACKAGE = "metarl_jax"
ROOT = Path(__file__).resolve().parents[1] / PACKAGE

# The first entry that is the module, or a package above it, decides. A new top-level module must be added here.
LAYERS = {
    "metarl_jax.types": 0,
    "metarl_jax.checks": 0,
    "metarl_jax.lazy": 0,
    "metarl_jax.cores": 0,
    "metarl_jax.ops": 1,
    "metarl_jax.networks": 1,
    "metarl_jax.tasks": 2,
    "metarl_jax.collect": 2,
    "metarl_jax.inner": 3,
    "metarl_jax.algorithms": 4,
    "metarl_jax.config": 5,
    "metarl_jax.tracking": 5,  # below the runs that write there
    "metarl_jax.runs": 6,
    "metarl_jax.report": 7,
    "metarl_jax.diagnostics": 7,
    "metarl_jax.plan": 7,
    "metarl_jax.export": 7,
    "metarl_jax.studies": 8,
    "metarl_jax.cli": 9,
    "metarl_jax.__main__": 9,
    "metarl_jax": 9,
}
LAST_PURE_LAYER = 4
IMPURE_LIBRARIES = {"jinja2", "pydantic", "typer", "click", "orbax", "yaml", "rich", "matplotlib", "tensorboardX"}


def module_name(path: Path, root: Path = ROOT) -> str:
    parts = [PACKAGE, *path.relative_to(root).with_suffix("").parts]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in sorted(ROOT.rglob("*.py"))}


def layer(module: str) -> int | None:
    name = module
    while name:
        # The bare package is an entry for itself only, or it would swallow every unknown module.
        if name in LAYERS and (name != PACKAGE or module == PACKAGE):
            return LAYERS[name]
        name = name.rpartition(".")[0]
    return None


def imported_names(tree: ast.AST, module: str, is_package: bool) -> set[str]:
    """Absolute dotted names that the code imports, at any depth of nesting; relative imports are resolved."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = module.split(".") if is_package else module.split(".")[:-1]
                kept = parents[: len(parents) - (node.level - 1)]
                base = ".".join([*kept, *([node.module] if node.module else [])])
            names |= {f"{base}.{alias.name}" for alias in node.names}
    return names


def to_module(name: str, modules: set[str]) -> str | None:
    """The module that an imported name lives in: ``metarl_jax.types.Policy`` -> ``metarl_jax.types``."""
    while name.startswith(PACKAGE):
        if name in modules:
            return name
        name = name.rpartition(".")[0]
    return None


def internal_imports(module: str) -> set[str]:
    path = MODULES[module]
    files = [file for file in (path, path.with_suffix(".pyi")) if file.exists()]  # the second: what is lazy in it
    names = {
        name
        for file in files
        for name in imported_names(ast.parse(file.read_text()), module, path.name == "__init__.py")
    }
    targets = {to_module(name, set(MODULES)) for name in names}
    return {target for target in targets if target is not None and target != module}


def find_cycle(graph: dict[str, set[str]]) -> list[str] | None:
    done: set[str] = set()

    def visit(node: str, path: list[str]) -> list[str] | None:
        if node in path:
            return [*path[path.index(node) :], node]
        if node in done:
            return None
        for target in sorted(graph.get(node, ())):
            if cycle := visit(target, [*path, node]):
                return cycle
        done.add(node)
        return None

    return next((cycle for node in sorted(graph) if (cycle := visit(node, []))), None)


@pytest.mark.parametrize("module", sorted(MODULES))
def test_module_has_a_layer(module: str) -> None:
    assert layer(module) is not None, f"{module} has no layer: add it to LAYERS in {Path(__file__).name}"


@pytest.mark.parametrize("module", sorted(MODULES))
def test_imports_point_downwards(module: str) -> None:
    own = layer(module)
    assert own is not None
    upward = {target for target in internal_imports(module) if (layer(target) or 0) > own}
    assert not upward, f"{module} (layer {own}) imports from above: {sorted(upward)}"


def test_no_import_cycles() -> None:
    graph = {module: internal_imports(module) for module in MODULES if layer(module) != LAYERS[PACKAGE]}
    # `from package import name` runs the package's __init__, which imports its own submodules: no cycle by itself.
    assert find_cycle(graph) is None


@pytest.mark.parametrize("module", sorted(m for m in MODULES if (layer(m) or 0) <= LAST_PURE_LAYER))
def test_pure_layers_import_no_impure_library(module: str) -> None:
    path = MODULES[module]
    tree = ast.parse(path.read_text())
    tops = {name.split(".")[0] for name in imported_names(tree, module, path.name == "__init__.py")}
    assert not tops & IMPURE_LIBRARIES


def test_relative_imports_are_resolved() -> None:
    tree = ast.parse("from . import a\nfrom .b import c\nfrom ..types import d\nimport e.f")
    assert imported_names(tree, "metarl_jax.ops.x", is_package=False) == {
        "metarl_jax.ops.a",
        "metarl_jax.ops.b.c",
        "metarl_jax.types.d",
        "e.f",
    }


def test_cycles_and_unknown_modules_are_found() -> None:
    assert find_cycle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c", "b"]
    assert find_cycle({"a": {"b", "c"}, "b": {"c"}, "c": set()}) is None
    assert layer("metarl_jax.nowhere") is None
    assert layer("metarl_jax.tasks.navigation.goals") == 2
