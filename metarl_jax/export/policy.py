"""Acts with a policy that ``metarl export`` wrote, with numpy alone or, faster on many robots, with JAX.

This file lies in the exported folder beside ``policy.json`` and ``weights.safetensors``, and needs nothing else::

    policy = Policy(".")
    state = policy.reset()
    action, state = policy.act(state, observation)              # the most likely action
    action, state = policy.act(state, observation, generator)   # a random one, np.random.default_rng(0)
    state = policy.observe(state, reward, done)                 # what a memory wants to know
"""

import copy
import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import NormalDist
from typing import Any, NamedTuple

import numpy as np

Tensors = dict[str, np.ndarray]
Program = Mapping[str, Any]

_DTYPES = {"F64": "f8", "F32": "f4", "F16": "f2", "I64": "i8", "I32": "i4", "I16": "i2", "I8": "i1"} | {
    "U64": "u8", "U32": "u4", "U16": "u2", "U8": "u1", "BOOL": "?"
}  # fmt: skip


class State(NamedTuple):
    """What ``B`` robots side by side carry from step to step.

    Attributes:
      memory: arrays ``[B, ...]`` by name; none of a policy without a memory.
      action: ``[B, ...]`` the last one, zeros before the first.
      reward: ``[B]`` what it earned; None until :meth:`Policy.observe` says so.
      done: ``[B]`` 1.0 if the next observation is the first of an episode.
    """

    memory: Tensors
    action: np.ndarray
    reward: np.ndarray | None
    done: np.ndarray


class Policy:
    """An exported policy; it never changes.

    Args:
      folder: what was exported.
      engine: ``numpy``, or ``jax``: the compiled ``act.jaxexport``.

    Attributes:
      params: the weights by name.
      memory: what every episode starts from.
      observation_shape: of one robot.
      privileged_size: how many of its last numbers were for a critic alone; :meth:`act` does without them.
      num_actions: how many there are to choose from, or numbers in one action.
    """

    def __init__(self, folder: str | Path, engine: str = "numpy") -> None:
        if engine not in ("numpy", "jax"):
            raise ValueError(f"engine = {engine!r}: give 'numpy' or 'jax'")
        self._folder, self._engine = Path(folder), engine
        self._about: dict[str, Any] = json.loads((self._folder / "policy.json").read_text())
        tensors = read_safetensors(self._folder / "weights.safetensors")
        self.params, self.memory = (_below(kind, tensors) for kind in ("params/", "memory/"))
        self._constants = _below("constants/", tensors)
        self.observation_shape = tuple(self._about["observation"]["shape"])
        self.privileged_size: int = self._about["observation"].get("privileged", 0)
        self.num_actions: int = self._about["action"]["size"]
        self._artefacts: dict[str, Callable[..., Any]] = {}
        if engine == "numpy" and self._about["refused"]:
            raise ValueError(f"{self._about['refused']}: use engine='jax'")

    def reset(self, batch: int = 1) -> State:
        """Before the first observation of ``batch`` robots."""
        about, real = self._about["action"], np.dtype(self._about["reward"]["dtype"])
        shape = () if about["discrete"] else (about["size"],)
        memory = {name: np.repeat(array[:1], batch, axis=0) for name, array in self.memory.items()}
        return State(memory, np.zeros((batch, *shape), about["dtype"]), np.zeros(batch, real), np.ones(batch, real))

    def act(
        self, state: State, observation: Any, generator: np.random.Generator | None = None
    ) -> tuple[np.ndarray, State]:
        """The most likely action or, with a generator, a random one: ``[B, ...]``, or one if one observation is given.

        It is the policy's output, as in training: :meth:`control` makes of it what the environment takes.
        """
        seen = self._complete(np.asarray(observation, self._about["observation"]["dtype"]))
        is_single = seen.shape == self.observation_shape
        lanes = seen[None] if is_single else seen
        batch = len(state.done)
        if lanes.shape != (batch, *self.observation_shape):
            short = f", or without the last {self.privileged_size} numbers" if self.privileged_size else ""
            raise ValueError(f"observation.shape = {seen.shape}: give {(batch, *self.observation_shape)}{short}")
        if state.reward is None and state.memory:
            raise ValueError(
                "reward = None: this policy remembers rewards: call observe(state, reward, done) after act"
            )
        reward = np.zeros_like(state.done) if state.reward is None else state.reward
        step = self._step_jax if self._engine == "jax" else self._step_numpy
        action, memory = step(state._replace(reward=reward), lanes, generator)
        after = State(memory, action, None, np.zeros_like(state.done))
        return (action[0] if is_single else action), after

    def _complete(self, seen: np.ndarray) -> np.ndarray:
        """With zeros in the place of what no action depends on, if that is left out."""
        missing = self.privileged_size
        if missing == 0 or seen.ndim == 0 or seen.shape[-1] != self.observation_shape[-1] - missing:
            return seen
        return np.concatenate([seen, np.zeros((*seen.shape[:-1], missing), seen.dtype)], axis=-1)

    def observe(self, state: State, reward: Any, done: Any = False) -> State:
        """What the last action earned, and whether its episode is over; one number each, or ``[B]``."""
        earned, is_over = (np.broadcast_to(np.asarray(x, state.done.dtype), state.done.shape) for x in (reward, done))
        return state._replace(reward=earned, done=is_over)

    def control(self, action: np.ndarray) -> np.ndarray:
        """What the environment is given for one action: scaled and clipped, as in training."""
        if self._about["control"] is None:
            return action
        return run(self._about["control"], {"action": np.asarray(action)}, None)[0]

    def adapt(self, observation: Any, action: Any, reward: Any, length: Any, terminated: Any) -> "Policy":
        """Adapt to recorded episodes, with ``adapt.jaxexport``; needs JAX.

        ``k`` units of adaptation (gradient steps, or episodes seen) from ``k`` batches of ``B`` episodes of at most
        ``T`` steps each, batch ``i`` recorded by the policy as it is after ``i`` units.

        Args:
          observation: ``[k, T + 1, B, ...]``, the last of an episode that of its end; whole, a critic's numbers too.
          action: ``[k, T, B, ...]`` what :meth:`act` gave.
          reward: ``[k, T, B]``.
          length: ``[k, B]`` steps taken; what is recorded behind them is not looked at.
          terminated: ``[k, B]`` whether the task ended it, as it does all that are shorter than ``T``.
        """
        learn = self._artefact("adapt")
        kinds = (self._about[kind]["dtype"] for kind in ("observation", "action", "reward"))
        data = [np.asarray(x, kind) for x, kind in zip((observation, action, reward), kinds, strict=True)]
        if data[0].shape[3:] != self.observation_shape:
            wanted = ", ".join(["k", "T + 1", "B", *map(str, self.observation_shape)])
            raise ValueError(f"observation.shape = {data[0].shape}: give ({wanted})")
        data += [np.asarray(length, np.int32), np.asarray(terminated, self._about["reward"]["dtype"])]
        params, memory = learn(self.params, *data)
        adapted = copy.copy(self)
        adapted.params, new = ({name: np.asarray(x) for name, x in tree.items()} for tree in (params, memory))
        adapted.memory = new or self.memory
        return adapted

    def _step_numpy(
        self, state: State, lanes: np.ndarray, generator: np.random.Generator | None
    ) -> tuple[np.ndarray, Tensors]:
        program = self._about["act" if generator is None else "sample"]
        results = []
        for i in range(len(lanes)):
            one = slice(i, i + 1)
            assert state.reward is not None
            seen = {"observation": lanes[one], "previous_action": state.action[one]}
            seen |= {"previous_reward": state.reward[one], "done": state.done[one], "key": np.zeros((), np.uint8)}
            memory = {f"memory/{name}": array[one] for name, array in state.memory.items()}
            params = {f"params/{name}": array for name, array in self.params.items()}
            constants = {f"constants/{name}": array for name, array in self._constants.items()}
            with np.errstate(all="ignore"):  # as silent as JAX
                results.append(run(program, params | constants | memory | seen, generator))
        action, *memory_after = (np.concatenate(parts) for parts in zip(*results, strict=True))
        return action, dict(zip(self._about["memory"], memory_after, strict=True))

    def _step_jax(
        self, state: State, lanes: np.ndarray, generator: np.random.Generator | None
    ) -> tuple[np.ndarray, Tensors]:
        shape = (len(lanes), 2)
        key = (
            np.zeros(shape, np.uint32) if generator is None else generator.integers(2**32, size=shape, dtype=np.uint32)
        )
        percept = (lanes, state.action, state.reward, state.done)
        likely, random, memory = self._artefact("act")(self.params, state.memory, *percept, key)
        action = np.asarray(likely if generator is None else random)
        return action, {name: np.asarray(memory[name]) for name in state.memory}

    def _artefact(self, name: str) -> Callable[..., Any]:
        if name not in self._artefacts:
            import jax
            from jax import export

            if name == "adapt" and self._about["no_adapt"]:
                raise ValueError(self._about["no_adapt"])
            kind = self._about["reward"]["dtype"]
            if jax.dtypes.canonicalize_dtype(kind).name != kind:
                raise ValueError("the policy was exported in double precision: set JAX_ENABLE_X64=1")
            path = self._folder / f"{name}.jaxexport"
            self._artefacts[name] = jax.jit(export.deserialize(bytearray(path.read_bytes())).call)
        return self._artefacts[name]


def read_safetensors(path: str | Path) -> Tensors:
    """All arrays of a safetensors file by name; those of bfloat16 are float32 here."""
    data = Path(path).read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    tensors = {}
    for name, about in json.loads(data[8:start]).items():
        if name != "__metadata__":
            low, high = about["data_offsets"]
            bits = data[start + low : start + high]
            if about["dtype"] == "BF16":
                flat = _from_bfloat16(np.frombuffer(bits, "<u2"))
            else:
                flat = np.frombuffer(bits, "<" + _DTYPES[about["dtype"]])
            tensors[name] = flat.reshape(about["shape"])
    return tensors


def _from_bfloat16(bits: Any) -> Any:
    """The upper halves of float32, which numpy computes with in the place of bfloat16."""
    return (np.asarray(bits, np.uint32) << 16).view(np.float32)


def _below(prefix: str, tensors: Tensors) -> Tensors:
    return {name.removeprefix(prefix): array for name, array in tensors.items() if name.startswith(prefix)}


def run(program: Program, values: Mapping[Any, Any], generator: np.random.Generator | None) -> list[Any]:
    """Evaluate a program: ``[operation, inputs, outputs, settings]`` one after the other.

    An input is the number of a variable, the name of an array in ``values``, or ``[dtype, number]``. Random bits come
    from the generator, so keys hold nothing but their shape.
    """
    known = dict(values)

    def read(atom: Any) -> Any:
        return np.dtype(atom[0]).type(atom[1]) if isinstance(atom, list) else known[atom]

    def call(within: Program, arguments: list[Any]) -> list[Any]:
        return run(within, {**values, **dict(zip(within["inputs"], arguments, strict=True))}, generator)

    for operation, inputs, outputs, settings in program["equations"]:
        arguments = [read(atom) for atom in inputs]
        if operation == "random_bits":
            assert generator is not None
            kind = np.dtype(f"uint{settings['bit_width']}")
            shape = (*arguments[0].shape, *settings["shape"])
            results = [generator.integers(np.iinfo(kind).max, size=shape, dtype=kind, endpoint=True)]
        elif operation in CONTROL:
            results = CONTROL[operation](call, *arguments, **settings)
        else:
            made = OPERATIONS[operation](*arguments, **settings)
            results = list(made) if isinstance(made, (list, tuple)) else [made]
        known.update(zip(outputs, results, strict=True))
    return [read(atom) for atom in program["outputs"]]


Call = Callable[[Program, list[Any]], list[Any]]
"""Evaluates a program within a program."""


def _cond(call: Call, index: Any, *arguments: Any, branches: list[Program]) -> list[Any]:
    return call(branches[int(np.clip(index, 0, len(branches) - 1))], list(arguments))


def _scan(
    call: Call, *arguments: Any, jaxpr: Program, length: int, reverse: bool, num_consts: int, num_carry: int
) -> list[Any]:
    first = num_consts + num_carry
    shared, carry, over = arguments[:num_consts], list(arguments[num_consts:first]), arguments[first:]
    rows = []
    for t in reversed(range(length)) if reverse else range(length):
        results = call(jaxpr, [*shared, *carry, *(x[t] for x in over)])
        carry = results[:num_carry]
        rows.append(results[num_carry:])
    return carry + [np.stack(column) for column in zip(*(rows[::-1] if reverse else rows), strict=True)]


def _while(
    call: Call, *arguments: Any, cond_jaxpr: Program, cond_nconsts: int, body_jaxpr: Program, body_nconsts: int
) -> list[Any]:
    first = cond_nconsts + body_nconsts
    asked, shared, carry = arguments[:cond_nconsts], arguments[cond_nconsts:first], list(arguments[first:])
    while np.any(goes_on := call(cond_jaxpr, [*asked, *carry])[0]):
        after = call(body_jaxpr, [*shared, *carry])
        carry = [_where_leading(goes_on, new, old) for new, old in zip(after, carry, strict=True)]
    return carry


def _where_leading(condition: Any, x: Any, y: Any) -> Any:
    """Of lanes, which are the leading axes; where no lanes are, ``x``."""
    lanes = np.ndim(condition)
    return np.where(np.reshape(condition, (*condition.shape, *[1] * (np.ndim(x) - lanes))), x, y) if lanes else x


CONTROL: dict[str, Callable[..., list[Any]]] = {"cond": _cond, "scan": _scan, "while": _while}


def _dot_general(x: Any, y: Any, *, dimension_numbers: Any, preferred_element_type: str | None = None) -> Any:
    (summed_x, summed_y), (batch_x, batch_y) = dimension_numbers
    left, right = list(range(x.ndim)), list(range(x.ndim, x.ndim + y.ndim))
    for i, j in zip(summed_x + batch_x, summed_y + batch_y, strict=True):
        right[j] = left[i]
    rest = [left[i] for i in range(x.ndim) if i not in summed_x + batch_x]
    rest += [right[j] for j in range(y.ndim) if j not in summed_y + batch_y]
    x, y = (_as(preferred_element_type, part) for part in (x, y))
    return np.einsum(x, left, y, right, [left[i] for i in batch_x] + rest, optimize=True)


def _as(dtype: str | None, x: Any) -> Any:
    """In the type of the result, so that sums of small types do not overflow; as it is if None."""
    return x if dtype is None else np.asarray(x, dtype)


def _convert(x: Any, *, new_dtype: str) -> Any:
    """What is too large for a whole number is the largest there is, and no number is 0, as in XLA."""
    x, kind = np.asarray(x), np.dtype(new_dtype)
    if x.dtype.kind != "f" or kind.kind not in "iu":
        return x.astype(kind)
    ends, wide = np.iinfo(kind), x.astype(np.float64)
    is_low, is_high = wide <= ends.min, wide >= ends.max
    inside = np.where(is_low | is_high | np.isnan(wide), 0.0, wide).astype(kind)
    return np.where(is_low, ends.min, np.where(is_high, ends.max, inside)).astype(kind)


def _reduce_precision(x: Any, *, exponent_bits: int, mantissa_bits: int) -> Any:
    """Of 8 and 7 bits: to the nearest bfloat16, of two to the even one."""
    numbers = np.asarray(x, np.float32)
    bits = numbers.view(np.uint32)
    upper = (bits + np.uint32(0x7FFF) + ((bits >> 16) & np.uint32(1))) >> 16
    return np.where(np.isnan(numbers), numbers, _from_bfloat16(upper)).astype(np.asarray(x).dtype)


def _broadcast_in_dim(x: Any, *, shape: Any, broadcast_dimensions: Any) -> Any:
    sizes = [1] * len(shape)
    for axis, place in enumerate(broadcast_dimensions):
        sizes[place] = np.shape(x)[axis]
    return np.broadcast_to(np.reshape(x, sizes), shape)


def _iota(*, dtype: str, shape: Any, dimension: int) -> Any:
    return _broadcast_in_dim(np.arange(shape[dimension], dtype=dtype), shape=shape, broadcast_dimensions=[dimension])


def _slice(x: Any, *, start_indices: Any, limit_indices: Any, strides: Any = None) -> Any:
    steps = strides or [1] * x.ndim
    return x[tuple(slice(*ends) for ends in zip(start_indices, limit_indices, steps, strict=True))]


def _block(shape: Any, starts: Any, sizes: Any) -> tuple[slice, ...]:
    """An index of the block of an array, moved inside of it."""
    places = [int(np.clip(start, 0, n - size)) for start, size, n in zip(starts, sizes, shape, strict=True)]
    return tuple(slice(low, low + size) for low, size in zip(places, sizes, strict=True))


def _dynamic_slice(x: Any, *starts: Any, slice_sizes: Any) -> Any:
    return x[_block(x.shape, starts, slice_sizes)]


def _dynamic_update_slice(x: Any, update: Any, *starts: Any) -> Any:
    changed = np.array(x)
    changed[_block(changed.shape, starts, update.shape)] = update
    return changed


def _places(
    shape: Any, indices: Any, sizes: Any, *, axes: Any, single: Any, batched: Any, lanes: Any
) -> tuple[list[Any], Any]:
    """Where blocks of an array lie: an index of each axis, ``[*indices, *block]``; ``[*indices]`` which are inside.

    ``axes`` are indexed, ``batched`` go along with the axes ``lanes`` of the indices; these and ``single`` are of size
    1 and no axis of a block. Blocks that are not inside are moved there.
    """
    starts = np.zeros((*indices.shape[:-1], len(shape)), np.int64)
    starts[..., axes] = indices
    for axis, lane in zip(batched, lanes, strict=True):
        starts[..., axis] = np.expand_dims(np.arange(shape[axis]), [i for i in range(starts.ndim - 1) if i != lane])
    highest = np.subtract(shape, sizes)
    is_inside = np.all((starts >= 0) & (starts <= highest), axis=-1)
    starts = np.clip(starts, 0, highest)
    kept = [axis for axis in range(len(shape)) if axis not in (*single, *batched)]
    index = []
    for axis, size in enumerate(sizes):
        place = starts[..., axis].reshape((*starts.shape[:-1], *[1] * len(kept)))
        if axis in kept:
            place = place + np.arange(size).reshape(-1, *[1] * (len(kept) - 1 - kept.index(axis)))
        index.append(place)
    return index, is_inside


def _lowest(kind: np.dtype) -> Any:
    return False if kind.kind == "b" else -math.inf if kind.kind == "f" else np.iinfo(kind).min


def _highest(kind: np.dtype) -> Any:
    return True if kind.kind == "b" else math.inf if kind.kind == "f" else np.iinfo(kind).max


def _missing(kind: np.dtype) -> Any:
    """What JAX reads outside of an array."""
    return math.nan if kind.kind == "f" else (_lowest if kind.kind == "i" else _highest)(kind)


def _gather(x: Any, indices: Any, *, dimension_numbers: Any, slice_sizes: Any, mode: str, fill_value: Any) -> Any:
    index, is_inside = _places(
        x.shape,
        indices,
        slice_sizes,
        axes=dimension_numbers["start_index_map"],
        single=dimension_numbers["collapsed_slice_dims"],
        batched=dimension_numbers["operand_batching_dims"],
        lanes=dimension_numbers["start_indices_batching_dims"],
    )
    blocks = np.asarray(x)[tuple(index)]
    if mode == "FILL_OR_DROP":
        nothing = np.asarray(_missing(x.dtype) if fill_value is None else fill_value, x.dtype)
        is_there = is_inside.reshape((*is_inside.shape, *[1] * (blocks.ndim - is_inside.ndim)))
        blocks = np.where(is_there, blocks, nothing)
    return np.moveaxis(blocks, range(is_inside.ndim, blocks.ndim), dimension_numbers["offset_dims"])


def _scatter(change: Any) -> Callable[..., Any]:
    """What changes blocks of an array by others, one after the other; puts them there if None."""

    def scatter(x: Any, indices: Any, updates: Any, *, dimension_numbers: Any, mode: str) -> Any:
        window, first = dimension_numbers["update_window_dims"], indices.ndim - 1
        single, batched = dimension_numbers["inserted_window_dims"], dimension_numbers["operand_batching_dims"]
        blocks = np.moveaxis(updates, window, range(first, updates.ndim))
        rest = iter(blocks.shape[first:])
        sizes = [1 if axis in (*single, *batched) else next(rest) for axis in range(np.ndim(x))]
        index, is_inside = _places(
            np.shape(x),
            indices,
            sizes,
            axes=dimension_numbers["scatter_dims_to_operand_dims"],
            single=single,
            batched=batched,
            lanes=dimension_numbers["scatter_indices_batching_dims"],
        )
        is_taken = is_inside | (mode == "CLIP")
        given, changed = blocks[is_taken], np.array(x)[None]  # an axis more, since no place is one of no axes
        where = (np.zeros(given.shape, np.intp), *(np.broadcast_to(place, blocks.shape)[is_taken] for place in index))
        if change is None:
            changed[where] = given
        else:
            change.at(changed, where, given)
        return changed[0]

    return scatter


def _sort(*parts: Any, dimension: int, num_keys: int) -> list[Any]:
    order = np.lexsort(parts[:num_keys][::-1], dimension)
    return [np.take_along_axis(part, order, dimension) for part in parts]


def _ranks(x: Any) -> Any:
    """Whole numbers in the order of all numbers: -0.0 comes before 0.0, what is no number at the end of its sign."""
    if x.dtype.kind != "f":
        return x
    bits = np.asarray(x).view(f"i{x.itemsize}")
    return np.where(bits < 0, bits ^ np.iinfo(bits.dtype).max, bits)


def _top_k(x: Any, *, k: int, axis: int) -> list[Any]:
    """Of equal ones the first."""
    order = np.take(np.argsort(~_ranks(x), axis, kind="stable"), range(k), axis)
    return [np.take_along_axis(x, order, axis), order.astype(np.int32)]


def _accumulate(function: np.ufunc) -> Callable[..., Any]:
    def accumulate(x: Any, *, axis: int, reverse: bool) -> Any:
        ahead = np.flip(x, axis) if reverse else x
        made = function.accumulate(ahead, axis, dtype=x.dtype)
        return np.flip(made, axis) if reverse else made

    return accumulate


def _windows(x: Any, fill: Any, *, sizes: Any, strides: Any, padding: Any, spread: Any, gaps: Any) -> Any:
    """All windows of an array, ``[*places, *window]``: of an array that is spread out, with gaps in the window."""
    ends = [(low, high, step - 1) for (low, high), step in zip(padding, spread, strict=True)]
    padded = _pad(x, fill, padding_config=ends)
    wide = [(size - 1) * gap + 1 for size, gap in zip(sizes, gaps, strict=True)]
    places = [max(0, size - taken + 1) for size, taken in zip(padded.shape, wide, strict=True)]
    if 0 in places:  # a window is larger than the array
        every = np.zeros([*places, *wide], x.dtype)
    else:
        every = np.lib.stride_tricks.sliding_window_view(padded, wide)
    return every[tuple(slice(None, None, step) for step in (*strides, *gaps))]


def _reduce_window(function: np.ufunc, lowest: Callable[[np.dtype], Any]) -> Callable[..., Any]:
    def reduce(
        x: Any, *, window_dimensions: Any, window_strides: Any, padding: Any, base_dilation: Any, window_dilation: Any
    ) -> Any:
        windows = _windows(
            x,
            lowest(x.dtype),
            sizes=window_dimensions,
            strides=window_strides,
            padding=padding,
            spread=base_dilation,
            gaps=window_dilation,
        )
        return function.reduce(windows, tuple(range(x.ndim, 2 * x.ndim)), dtype=x.dtype)

    return reduce


def _conv_general_dilated(
    x: Any,
    kernel: Any,
    *,
    dimension_numbers: Any,
    window_strides: Any,
    padding: Any,
    lhs_dilation: Any,
    rhs_dilation: Any,
    feature_group_count: int,
    preferred_element_type: str | None = None,
) -> Any:
    """A product with all windows, group by group."""
    images, filters = (
        np.transpose(_as(preferred_element_type, part), dimension_numbers[spec])
        for part, spec in ((x, "lhs_spec"), (kernel, "rhs_spec"))
    )
    windows = _windows(
        images,
        0,
        sizes=[1, 1, *filters.shape[2:]],
        strides=[1, 1, *window_strides],
        padding=[(0, 0), (0, 0), *padding],
        spread=[1, 1, *lhs_dilation],
        gaps=[1, 1, *rhs_dilation],
    )
    batch, _, *places = windows.shape[: images.ndim]
    groups, num, (given, *window) = feature_group_count, math.prod(places), filters.shape[1:]
    seen = windows.reshape(batch, groups, given, num, math.prod(window))
    rows = np.swapaxes(seen, 2, 3).reshape(batch, groups, num, given * math.prod(window))
    made = np.matmul(filters.reshape(groups, len(filters) // groups, rows.shape[-1]), np.swapaxes(rows, 2, 3))
    return np.transpose(made.reshape(batch, len(filters), *places), np.argsort(dimension_numbers["out_spec"]))


def _select_n(which: Any, *cases: Any) -> Any:
    chosen, number = cases[0], np.asarray(which, np.intp)
    for i in range(1, len(cases)):
        chosen = np.where(number == i, cases[i], chosen)
    return chosen


def _pad(x: Any, value: Any, *, padding_config: Any) -> Any:
    """Some between neighbours, then some at the ends; what is less than nothing is cut off."""
    for axis, (low, high, between) in enumerate(padding_config):
        inside = max(0, x.shape[axis] + between * (x.shape[axis] - 1))
        first, size = max(0, low), max(0, low) + inside + max(0, high)
        padded = np.full([*x.shape[:axis], size, *x.shape[axis + 1 :]], value, x.dtype)
        ahead = (slice(None),) * axis
        padded[(*ahead, slice(first, first + inside, between + 1))] = x
        x = padded[(*ahead, slice(max(0, -low), size - max(0, -high)))]
    return x


def _split(x: Any, *, sizes: Any, axis: int) -> list[Any]:
    return list(np.split(x, np.cumsum(sizes)[:-1], axis))


def _erf_inv(p: float) -> float:
    if not abs(p) < 1.0:
        return p * math.inf if abs(p) == 1.0 else math.nan
    return math.copysign(NormalDist().inv_cdf((1.0 - abs(p)) / 2.0) / math.sqrt(2.0), p)


def _lgamma(x: float) -> float:
    return math.inf if x <= 0.0 and x.is_integer() else math.lgamma(x)


def _round(x: Any, *, rounding_method: str) -> Any:
    """Of two that are as near, the even one or the one away from zero."""
    if rounding_method == "TO_NEAREST_EVEN":
        return np.rint(x)
    whole = np.trunc(x)
    return whole + np.sign(x) * (np.abs(x - whole) >= 0.5)


def _each(function: Callable[[float], float]) -> Callable[[Any], Any]:
    """A function of one number, of each number of an array."""
    return lambda x: np.reshape([function(float(one)) for one in np.ravel(x)], np.shape(x)).astype(np.asarray(x).dtype)


def _div(x: Any, y: Any) -> Any:
    """Whole numbers are cut towards zero; by 0 it is the one of all bits, as in XLA."""
    if x.dtype.kind == "f":
        return np.divide(x, y)
    return np.where(y == 0, ~np.zeros_like(x), (x - np.fmod(x, y)) // y)


def _rem(x: Any, y: Any) -> Any:
    """Of whole numbers by 0 all that there was, as in XLA."""
    return np.fmod(x, y) if x.dtype.kind == "f" else np.where(y == 0, x, np.fmod(x, y))


def _shift_right(sign: str) -> Callable[[Any, Any], Any]:
    """From the left comes the bit of the sign (``i``), or zeros (``u``), whatever type the number is of."""

    def shift(x: Any, y: Any) -> Any:
        bits = f"{sign}{x.itemsize}"
        return np.right_shift(np.asarray(x).view(bits), np.asarray(y).view(bits)).view(x.dtype)

    return shift


def _logistic(x: Any) -> Any:
    """Without overflow on either side."""
    small = np.exp(-np.abs(x))
    return np.where(x >= 0, 1 / (1 + small), small / (1 + small))


def _integer_pow(x: Any, *, y: int) -> Any:
    return np.power(x, np.asarray(y, np.asarray(x).dtype))


OPERATIONS: dict[str, Callable[..., Any]] = {
    "abs": np.abs, "add": np.add, "and": np.bitwise_and, "acos": np.arccos, "acosh": np.arccosh, "add_any": np.add,
    "asin": np.arcsin, "asinh": np.arcsinh, "atan": np.arctan, "atan2": np.arctan2, "atanh": np.arctanh,
    "cbrt": np.cbrt, "ceil": np.ceil, "cos": np.cos, "cosh": np.cosh, "eq": np.equal, "exp": np.exp,
    "exp2": np.exp2, "expm1": np.expm1, "floor": np.floor, "ge": np.greater_equal, "gt": np.greater,
    "is_finite": np.isfinite, "le": np.less_equal, "log": np.log, "log1p": np.log1p, "lt": np.less,
    "matmul_nn": np.matmul, "max": np.maximum, "min": np.minimum, "mul": np.multiply, "ne": np.not_equal,
    "neg": np.negative, "nextafter": np.nextafter, "not": np.invert, "or": np.bitwise_or,
    "rem": _rem, "shift_left": np.left_shift, "shift_right_logical": _shift_right("u"),
    "shift_right_arithmetic": _shift_right("i"), "sign": np.sign, "sin": np.sin, "sinh": np.sinh, "sqrt": np.sqrt,
    "square": np.square, "sub": np.subtract, "tan": np.tan, "tanh": np.tanh, "xor": np.bitwise_xor,
    "argmax": lambda x, *, axes, index_dtype: np.argmax(x, axes[0]).astype(index_dtype),
    "argmin": lambda x, *, axes, index_dtype: np.argmin(x, axes[0]).astype(index_dtype),
    "bfloat16_from_bits": lambda bits: _from_bfloat16(np.asarray(bits).view(np.uint16)),
    "bitcast_convert_type": lambda x, *, new_dtype: np.asarray(x).view(new_dtype),
    "broadcast_in_dim": _broadcast_in_dim,
    "clamp": lambda low, x, high: np.clip(x, low, high),
    "concatenate": lambda *parts, dimension: np.concatenate(parts, dimension),
    "conv_general_dilated": _conv_general_dilated,
    "convert_element_type": _convert,
    "copy": lambda x: x,
    "cumlogsumexp": _accumulate(np.logaddexp),
    "cummax": _accumulate(np.maximum),
    "cummin": _accumulate(np.minimum),
    "cumprod": _accumulate(np.multiply),
    "cumsum": _accumulate(np.add),
    "div": _div,
    "dot_general": _dot_general,
    "dynamic_slice": _dynamic_slice,
    "dynamic_update_slice": _dynamic_update_slice,
    "eq_to": lambda x, y: _ranks(x) == _ranks(y),
    "erf": _each(math.erf),
    "erf_inv": _each(_erf_inv),
    "erfc": _each(math.erfc),
    "gather": _gather,
    "integer_pow": _integer_pow,
    "iota": _iota,
    "le_to": lambda x, y: _ranks(x) <= _ranks(y),
    "lgamma": _each(_lgamma),
    "logistic": _logistic,
    "lt_to": lambda x, y: _ranks(x) < _ranks(y),
    "optimization_barrier": lambda *x: list(x),
    "pad": _pad,
    "pow": lambda x, y: np.power(x, np.asarray(y, np.asarray(x).dtype)),
    "random_fold_in": lambda key, data: key,
    "random_split": lambda key, *, shape: np.zeros((*key.shape, *shape), np.uint8),
    "reduce_and": lambda x, *, axes: np.bitwise_and.reduce(x, tuple(axes)),
    "reduce_max": lambda x, *, axes: np.max(x, tuple(axes), initial=_lowest(x.dtype)),
    "reduce_min": lambda x, *, axes: np.min(x, tuple(axes), initial=_highest(x.dtype)),
    "reduce_or": lambda x, *, axes: np.bitwise_or.reduce(x, tuple(axes)),
    "reduce_precision": _reduce_precision,
    "reduce_prod": lambda x, *, axes: np.prod(x, tuple(axes), dtype=x.dtype),
    "reduce_sum": lambda x, *, axes: np.sum(x, tuple(axes), dtype=x.dtype),
    "reduce_window_max": _reduce_window(np.maximum, _lowest),
    "reduce_window_min": _reduce_window(np.minimum, _highest),
    "reduce_window_sum": _reduce_window(np.add, lambda kind: 0),
    "reduce_xor": lambda x, *, axes: np.bitwise_xor.reduce(x, tuple(axes)),
    "reshape": lambda x, *, new_sizes: np.reshape(x, new_sizes),
    "rev": lambda x, *, dimensions: np.flip(x, tuple(dimensions)),
    "round": _round,
    "rsqrt": lambda x: 1 / np.sqrt(x),
    "scatter": _scatter(None),
    "scatter-add": _scatter(np.add),
    "scatter-max": _scatter(np.maximum),
    "scatter-min": _scatter(np.minimum),
    "scatter-mul": _scatter(np.multiply),
    "scatter-sub": _scatter(np.subtract),
    "select_n": _select_n,
    "slice": _slice,
    "sort": _sort,
    "split": _split,
    "squeeze": lambda x, *, dimensions: np.squeeze(x, tuple(dimensions)),
    "stack": lambda *parts, axis: np.stack(parts, axis),
    "stop_gradient": lambda x: x,
    "tile": lambda x, *, reps: np.tile(x, reps),
    "top_k": _top_k,
    "transpose": lambda x, *, permutation: np.transpose(x, permutation),
    "unstack": lambda x, *, axis: list(np.moveaxis(x, axis, 0)),
}  # fmt: skip
