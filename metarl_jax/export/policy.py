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
        seen = np.asarray(observation, self._about["observation"]["dtype"])
        is_single = seen.shape == self.observation_shape
        lanes = seen[None] if is_single else seen
        batch = len(state.done)
        if lanes.shape != (batch, *self.observation_shape):
            raise ValueError(f"observation.shape = {seen.shape}: give {(batch, *self.observation_shape)}")
        if state.reward is None and state.memory:
            raise ValueError(
                "reward = None: this policy remembers rewards: call observe(state, reward, done) after act"
            )
        reward = np.zeros_like(state.done) if state.reward is None else state.reward
        step = self._step_jax if self._engine == "jax" else self._step_numpy
        action, memory = step(state._replace(reward=reward), lanes, generator)
        after = State(memory, action, None, np.zeros_like(state.done))
        return (action[0] if is_single else action), after

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
          observation: ``[k, T + 1, B, ...]``, the last of an episode that of its end.
          action: ``[k, T, B, ...]`` what :meth:`act` gave.
          reward: ``[k, T, B]``.
          length: ``[k, B]`` steps taken; what is recorded behind them is not looked at.
          terminated: ``[k, B]`` whether the task ended it, as it does all that are shorter than ``T``.
        """
        kinds = (self._about[kind]["dtype"] for kind in ("observation", "action", "reward"))
        data = [np.asarray(x, kind) for x, kind in zip((observation, action, reward), kinds, strict=True)]
        data += [np.asarray(length, np.int32), np.asarray(terminated, self._about["reward"]["dtype"])]
        params, memory = self._artefact("adapt")(self.params, *data)
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
    """All arrays of a safetensors file by name."""
    data = Path(path).read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    tensors = {}
    for name, about in json.loads(data[8:start]).items():
        if name != "__metadata__":
            low, high = about["data_offsets"]
            flat = np.frombuffer(data[start + low : start + high], "<" + _DTYPES[about["dtype"]])
            tensors[name] = flat.reshape(about["shape"])
    return tensors


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
    while call(cond_jaxpr, [*asked, *carry])[0]:
        carry = call(body_jaxpr, [*shared, *carry])
    return carry


CONTROL: dict[str, Callable[..., list[Any]]] = {"cond": _cond, "scan": _scan, "while": _while}


def _dot_general(x: Any, y: Any, *, dimension_numbers: Any, preferred_element_type: str | None = None) -> Any:
    (summed_x, summed_y), (batch_x, batch_y) = dimension_numbers
    left, right = list(range(x.ndim)), list(range(x.ndim, x.ndim + y.ndim))
    for i, j in zip(summed_x + batch_x, summed_y + batch_y, strict=True):
        right[j] = left[i]
    rest = [left[i] for i in range(x.ndim) if i not in summed_x + batch_x]
    rest += [right[j] for j in range(y.ndim) if j not in summed_y + batch_y]
    product = np.einsum(x, left, y, right, [left[i] for i in batch_x] + rest, optimize=True)
    return product if preferred_element_type is None else product.astype(preferred_element_type)


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


def _dynamic_slice(x: Any, *starts: Any, slice_sizes: Any) -> Any:
    places = [int(np.clip(start, 0, n - size)) for start, size, n in zip(starts, slice_sizes, x.shape, strict=True)]
    return x[tuple(slice(low, low + size) for low, size in zip(places, slice_sizes, strict=True))]


def _select_n(which: Any, *cases: Any) -> Any:
    return np.choose(np.asarray(which, np.intp), cases)


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


def _erf_inv(x: Any) -> Any:
    return _each(lambda p: NormalDist().inv_cdf((1.0 + p) / 2.0) / math.sqrt(2.0))(x)


def _each(function: Callable[[float], float]) -> Callable[[Any], Any]:
    """A function of one number, of each number of an array."""
    return lambda x: np.reshape([function(float(one)) for one in np.ravel(x)], np.shape(x)).astype(np.asarray(x).dtype)


def _div(x: Any, y: Any) -> Any:
    if np.issubdtype(np.asarray(x).dtype, np.inexact):
        return np.divide(x, y)
    return np.sign(x) * np.sign(y) * (np.abs(x) // np.abs(y))  # whole numbers are cut towards zero


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
    "neg": np.negative, "nextafter": np.nextafter, "not": np.invert, "or": np.bitwise_or, "pow": np.power,
    "rem": np.fmod, "shift_left": np.left_shift, "shift_right_logical": np.right_shift, "sign": np.sign,
    "sin": np.sin, "sinh": np.sinh, "sqrt": np.sqrt, "square": np.square, "sub": np.subtract, "tan": np.tan,
    "tanh": np.tanh, "xor": np.bitwise_xor,
    "argmax": lambda x, *, axes, index_dtype: np.argmax(x, axes[0]).astype(index_dtype),
    "argmin": lambda x, *, axes, index_dtype: np.argmin(x, axes[0]).astype(index_dtype),
    "bitcast_convert_type": lambda x, *, new_dtype: np.asarray(x).view(new_dtype),
    "broadcast_in_dim": _broadcast_in_dim,
    "clamp": lambda low, x, high: np.clip(x, low, high),
    "concatenate": lambda *parts, dimension: np.concatenate(parts, dimension),
    "convert_element_type": lambda x, *, new_dtype: np.asarray(x).astype(new_dtype),
    "copy": lambda x: x,
    "cumsum": lambda x, *, axis, reverse: np.flip(np.cumsum(np.flip(x, axis), axis), axis) if reverse
    else np.cumsum(x, axis, dtype=x.dtype),
    "div": _div,
    "dot_general": _dot_general,
    "dynamic_slice": _dynamic_slice,
    "erf": _each(math.erf),
    "erf_inv": _erf_inv,
    "erfc": _each(math.erfc),
    "integer_pow": _integer_pow,
    "iota": _iota,
    "logistic": _logistic,
    "optimization_barrier": lambda *x: list(x),
    "pad": _pad,
    "random_fold_in": lambda key, data: key,
    "random_split": lambda key, *, shape: np.zeros((*key.shape, *shape), np.uint8),
    "random_wrap": lambda data: np.zeros(data.shape[:-1], np.uint8),
    "reduce_and": lambda x, *, axes: np.all(x, tuple(axes)),
    "reduce_max": lambda x, *, axes: np.max(x, tuple(axes)),
    "reduce_min": lambda x, *, axes: np.min(x, tuple(axes)),
    "reduce_or": lambda x, *, axes: np.any(x, tuple(axes)),
    "reduce_prod": lambda x, *, axes: np.prod(x, tuple(axes), dtype=x.dtype),
    "reduce_sum": lambda x, *, axes: np.sum(x, tuple(axes), dtype=x.dtype),
    "reshape": lambda x, *, new_sizes: np.reshape(x, new_sizes),
    "rev": lambda x, *, dimensions: np.flip(x, tuple(dimensions)),
    "rsqrt": lambda x: 1 / np.sqrt(x),
    "select_n": _select_n,
    "slice": _slice,
    "split": _split,
    "squeeze": lambda x, *, dimensions: np.squeeze(x, tuple(dimensions)),
    "stack": lambda *parts, axis: np.stack(parts, axis),
    "stop_gradient": lambda x: x,
    "tile": lambda x, *, reps: np.tile(x, reps),
    "transpose": lambda x, *, permutation: np.transpose(x, permutation),
    "unstack": lambda x, *, axis: list(np.moveaxis(x, axis, 0)),
}  # fmt: skip
