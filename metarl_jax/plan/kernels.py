"""What an optimised program launches: its kernels and the bytes they move, read from XLA's text of it.

Every instruction outside a fusion is a kernel of its own, and runs as often as the loops around it say.
"""

import re
from collections.abc import Callable, Iterator
from functools import cache
from typing import NamedTuple

from metarl_jax.collect.rollout import STEP_SCOPE


class Instruction(NamedTuple):
    """One line of a computation.

    Attributes:
      shape: of the result, as printed.
      operands: names of instructions, as printed.
      called: the computations that it names, by attribute (``calls``, ``body``, ``branches``, ...).
      rest: the attributes, as printed.
    """

    name: str
    shape: str
    opcode: str
    operands: tuple[str, ...]
    called: dict[str, tuple[str, ...]]
    rest: str
    is_root: bool


Computation = dict[str, Instruction]


class Program(NamedTuple):
    """A program's computations by name, and the name of the one that is run."""

    computations: dict[str, Computation]
    entry: str


class Launches(NamedTuple):
    """What one run of a program launches; of loops whose length depends on data, a single pass.

    Attributes:
      kernels: launched.
      bytes: moved between them and the device's main memory.
      seconds: as long as every kernel takes its time at least.
      kernels_per_step: launched by one pass of the loop over environment steps; None if there is no such loop.
      open_loops: loops whose length depends on data.
    """

    kernels: float = 0
    bytes: float = 0
    seconds: float = 0
    kernels_per_step: float | None = None
    open_loops: int = 0


_FREE = {
    *("parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all", "opt-barrier"),
    *("partition-id", "replica-id", "copy-done", "async-done", "all-reduce-done", "slice-done"),
}
"""Instructions that launch nothing."""
_HEAD = re.compile(r"^(?P<entry>ENTRY )?%?(?P<name>[\w.\-]+) \(.*\{$")
_LINE = re.compile(r"^\s+(?P<root>ROOT )?%?(?P<name>[\w.\-]+) = (?P<rest>.*)$")
_NAMES = re.compile(r"%([\w.\-]+)")
_ARRAY = re.compile(r"\b(pred|[a-z]+\d+\w*)\[([\d,]*)\](\{[^}]*\})?")
_CALLED = re.compile(r"\b(calls|to_apply|body|condition|\w+_computations?)=(\{[^}]*\}|%[\w.\-]+)")
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')
_COMMENT = re.compile(r"/\*.*?\*/")
_ON_CHIP = re.compile(r"S\([1-9]")  # a memory space of its own: a TPU's vector memory


def parse(text: str) -> Program:
    r"""Read a program as ``jax.stages.Compiled.as_text`` prints it.

    Args:
      text: of the whole module.

    Returns:
      The program.

    Example:
      >>> program = parse("ENTRY %main (x: f32[2]) -> f32[2] {\n  ROOT %x = f32[2]{0} parameter(0)\n}")
      >>> program.entry, program.computations["main"]["x"].opcode
      ('main', 'parameter')
    """
    computations: dict[str, Computation] = {}
    entry, current = "", {}
    for line in text.splitlines():
        if head := _HEAD.match(line):
            current = computations.setdefault(head["name"], {})
            entry = head["name"] if head["entry"] else entry
        elif found := _LINE.match(line):
            instruction = _instruction(found["name"], _COMMENT.sub("", found["rest"]), bool(found["root"]))
            current[instruction.name] = instruction
    return Program(computations, entry)


def _instruction(name: str, text: str, is_root: bool) -> Instruction:
    shape_end = _closing(text, 0) + 1 if text.startswith("(") else text.index(" ")
    opcode, _, after = text[shape_end:].strip().partition("(")
    operands_end = _closing("(" + after, 0) - 1
    rest = after[operands_end + 1 :]
    called = {key: tuple(_NAMES.findall(names)) for key, names in _CALLED.findall(rest)}
    operands = tuple(_NAMES.findall(after[:operands_end]))
    return Instruction(
        name, text[:shape_end], opcode, operands, called, after if opcode == "constant" else rest, is_root
    )


def _closing(text: str, start: int) -> int:
    """Where the bracket that opens at ``start`` closes."""
    depth = 0
    for i in range(start, len(text)):
        depth += (text[i] == "(") - (text[i] == ")")
        if depth == 0:
            return i
    return len(text) - 1


def size_of(shape: str) -> int:
    """Bytes that a result takes of the device's main memory; what is kept on the chip takes none.

    Example:
      >>> size_of("(f32[2,3]{1,0}, pred[4]{0}, bf16[5]{0:T(128)S(1)})")
      28
    """
    total = 0
    for kind, dimensions, layout in _ARRAY.findall(shape):
        if not _ON_CHIP.search(layout):
            bits = 8 if kind == "pred" else int(re.search(r"\d+", kind)[0])  # type: ignore[index]
            count = 1
            for dimension in filter(None, dimensions.split(",")):
                count *= int(dimension)
            total += count * bits // 8
    return total


def launches(program: Program, horizon: int, kernel_seconds: float, bandwidth: float) -> Launches:
    """Count what one run launches, a loop's body as often as it runs.

    Args:
      program: from :func:`parse`.
      horizon: steps of an episode: how often the loop over them runs.
      kernel_seconds: what the smallest kernel takes, launch included.
      bandwidth: of the device's main memory, bytes per second.

    Returns:
      The counts.
    """

    @cache
    def of(name: str) -> Launches:
        computation = program.computations[name]
        total = Launches()
        for instruction in computation.values():
            total = _add(total, of_one(computation, instruction))
        return total

    def of_one(computation: Computation, instruction: Instruction) -> Launches:
        called = [name for names in instruction.called.values() for name in names]
        if instruction.opcode == "while":
            return _of_loop(program, instruction, horizon, of)
        if instruction.opcode == "conditional":
            return max(map(of, called), key=lambda branch: branch.seconds)
        if instruction.opcode in ("call", "async-start"):
            return of(called[0])
        if instruction.opcode in _FREE:
            return Launches()
        moved = _moved(program, computation, instruction)
        return Launches(1, moved, max(kernel_seconds, moved / bandwidth))

    return of(program.entry)


def _add(a: Launches, b: Launches, times: int = 1) -> Launches:
    steps = [count for count in (a.kernels_per_step, b.kernels_per_step) if count is not None]
    return Launches(
        a.kernels + times * b.kernels,
        a.bytes + times * b.bytes,
        a.seconds + times * b.seconds,
        max(steps, default=None),
        a.open_loops + b.open_loops,
    )


def _of_loop(program: Program, loop: Instruction, horizon: int, of: Callable[[str], Launches]) -> Launches:
    (body,), (condition,) = loop.called["body"], loop.called["condition"]
    trips = _trips(program, loop, condition)
    one = _add(of(body), of(condition)._replace(kernels_per_step=None))
    # What fusions are called for is chosen among what they fuse: one that names the scope is enough.
    is_step = any(STEP_SCOPE in instruction.rest for instruction in program.computations[body].values())
    if is_step and trips == horizon and one.kernels_per_step is None:
        one = one._replace(kernels_per_step=one.kernels)
    return _add(Launches(open_loops=int(trips is None)), one, 1 if trips is None else trips)


def _trips(program: Program, loop: Instruction, condition: str) -> int | None:
    """How often a loop runs: as XLA knows, or as its condition ``i < n`` says, since JAX counts from 0."""
    if known := _TRIPS.search(loop.rest):
        return int(known[1])
    limits = [
        int(instruction.rest.partition(")")[0])
        for instruction in program.computations[condition].values()
        if instruction.opcode == "constant" and instruction.shape.startswith("s32[]")
    ]
    compares = [i for i in program.computations[condition].values() if i.opcode == "compare" and i.is_root]
    return limits[0] if len(limits) == len(compares) == 1 and "direction=LT" in compares[0].rest else None


def _moved(program: Program, computation: Computation, kernel: Instruction) -> int:
    """Bytes that a kernel reads and writes: of an array that it takes a slice of, or changes in place, the slice."""
    if kernel.opcode != "fusion":
        read = sum(_read(computation, name, [(kernel, i)]) for i, name in enumerate(kernel.operands))
        return read + _written(computation, kernel)
    inner = program.computations[kernel.called["calls"][0]]
    parameters = (instruction.name for instruction in inner.values() if instruction.opcode == "parameter")
    read = sum(_read(inner, name, list(_uses(inner, name))) for name in parameters)
    return read + sum(_written(inner, root) for root in _roots(inner))


def _uses(computation: Computation, name: str) -> Iterator[tuple[Instruction, int]]:
    """What uses a value, or the same under another shape, and as which of its operands."""
    for instruction in computation.values():
        for i, operand in enumerate(instruction.operands):
            if operand == name and instruction.opcode == "bitcast":
                yield from _uses(computation, instruction.name)
            elif operand == name:
                yield instruction, i


def _read(computation: Computation, name: str, uses: list[tuple[Instruction, int]]) -> int:
    whole, sliced = size_of(computation[name].shape), 0
    for user, i in uses:
        if i > 0 or user.opcode not in ("dynamic-slice", "dynamic-update-slice"):
            return whole
        sliced += size_of(user.shape) if user.opcode == "dynamic-slice" else 0
    return min(whole, sliced)


def _roots(computation: Computation) -> Iterator[Instruction]:
    """The results of a fusion, seen through what only renames them."""
    pending = [instruction for instruction in computation.values() if instruction.is_root]
    while pending:
        instruction = pending.pop()
        if instruction.opcode in ("tuple", "bitcast"):
            pending += [computation[name] for name in instruction.operands]
        else:
            yield instruction


def _written(computation: Computation, result: Instruction) -> int:
    if result.opcode == "parameter":
        return 0
    if result.opcode == "dynamic-update-slice":
        return size_of(computation[result.operands[1]].shape)
    return size_of(result.shape)
