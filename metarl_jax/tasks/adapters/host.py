"""Calls of the host from jitted code that the compilation cache keeps.

``jax.pure_callback`` puts a number into a program that means something to one process alone, so JAX keeps no program
that has one. XLA's foreign functions are found by name instead, whichever process compiled the program; ``ctypes``
makes one of a function in Python. What XLA hands over are its C structures ``XLA_FFI_*``, of which only such fields are
declared here as may not change within a major version.
"""

import ctypes
import threading
import traceback
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from metarl_jax.types import Array

HostFunction = Callable[..., Sequence[np.ndarray]]
_MAJOR = 0  # version of the structures below
_METADATA = 1  # the extension by which XLA asks for the version
_INTERNAL = 13  # the code of an error
_DTYPES = dict(zip(range(1, 13), ("?", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8"), strict=True))


def _structure(**fields: Any) -> Any:
    return type("_Structure", (ctypes.Structure,), {"_fields_": list(fields.items())})


_HEADER = {"struct_size": ctypes.c_size_t, "extension": ctypes.c_void_p}
_Version = _structure(**_HEADER, major=ctypes.c_int, minor=ctypes.c_int)
_Error = _structure(**_HEADER, message=ctypes.c_char_p, code=ctypes.c_int)
_MakeError = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.POINTER(_Error))
_Api = _structure(**_HEADER, version=_Version, internal=ctypes.c_void_p, make_error=_MakeError)
_Buffer = _structure(
    **_HEADER, dtype=ctypes.c_int, data=ctypes.c_void_p, rank=ctypes.c_int64, shape=ctypes.POINTER(ctypes.c_int64)
)
_Buffers = _structure(
    **_HEADER, size=ctypes.c_int64, types=ctypes.c_void_p, items=ctypes.POINTER(ctypes.POINTER(_Buffer))
)
_Call = _structure(
    **_HEADER,
    api=ctypes.POINTER(_Api),
    context=ctypes.c_void_p,
    stage=ctypes.c_int,
    arguments=_Buffers,
    results=_Buffers,
)
_Metadata = _structure(struct_size=ctypes.c_size_t, version=_Version)
_Extension = _structure(
    struct_size=ctypes.c_size_t, kind=ctypes.c_int, next=ctypes.c_void_p, metadata=ctypes.POINTER(_Metadata)
)
_Handler = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.POINTER(_Call))
_handlers: dict[str, Any] = {}
_lock = threading.Lock()


def call_host(
    name: str, function: HostFunction, results: tuple[jax.ShapeDtypeStruct, ...], *arguments: Array
) -> tuple[Array, ...]:
    """Call a pure function of the host from jitted code; vmapped calls become one, of arrays with leading axes.

    On an accelerator it is ``jax.pure_callback``, as foreign functions there are given the device's own memory.

    Args:
      name: says in any process what the function computes: the first one of a name in a process serves them all.
      function: ``(*arguments) -> results``, on arrays that are XLA's own memory and valid during the call only.
      results: shapes and dtypes.
      *arguments: its arguments.

    Returns:
      Its results. An exception fails the program, with its traceback as the message.

    Example:
      >>> one = jax.ShapeDtypeStruct((), "float32")
      >>> double = lambda x: call_host("double", lambda x: (2 * x,), (one,), x)[0]
      >>> jax.jit(jax.vmap(double))(jax.numpy.arange(3.0)).tolist()
      [0.0, 2.0, 4.0]
    """
    with _lock:
        if name not in _handlers:
            _handlers[name] = _Handler(_handled(function))
            pointer = ctypes.cast(_handlers[name], ctypes.c_void_p)
            jax.ffi.register_ffi_target(name, jax.ffi.pycapsule(pointer), platform="cpu")

    def callback(*arrays: Array) -> tuple[np.ndarray, ...]:
        return tuple(function(*map(np.asarray, arrays)))

    return jax.lax.platform_dependent(
        *arguments,
        cpu=jax.ffi.ffi_call(name, results, vmap_method="broadcast_all"),
        default=lambda *arrays: jax.pure_callback(callback, results, *arrays, vmap_method="broadcast_all"),
    )


def _handled(function: HostFunction) -> Callable[[Any], int | None]:
    """The function as XLA calls it."""

    def handle(pointer: Any) -> int | None:
        call = pointer.contents
        try:
            if _asks_version(call):
                return None
            outputs = function(*_views(call.arguments))
            for place, output in zip(_views(call.results), outputs, strict=True):
                place[...] = output
        except BaseException:  # it would be printed, and the program go on with what was in memory
            error = _Error(ctypes.sizeof(_Error), None, traceback.format_exc().encode(), _INTERNAL)
            return call.api.contents.make_error(error)
        return None

    return handle


def _asks_version(call: Any) -> bool:
    """Whether XLA asks for the version instead of calling; any minor one suits, and what states none is refused."""
    extension = _Extension.from_address(call.extension) if call.extension else None
    if extension is None or extension.kind != _METADATA:
        return False
    theirs = call.api.contents.version
    if theirs.major == _MAJOR:
        ours = extension.metadata.contents.version
        ours.major, ours.minor = theirs.major, theirs.minor
    return True


def _views(buffers: Any) -> list[np.ndarray]:
    return [_view(buffers.items[i].contents) for i in range(buffers.size)]


def _view(buffer: Any) -> np.ndarray:
    shape, dtype = tuple(buffer.shape[: buffer.rank]), np.dtype(_DTYPES[buffer.dtype])
    size = dtype.itemsize * int(np.prod(shape, dtype=int))
    return np.ndarray(shape, dtype, memoryview((ctypes.c_char * size).from_address(buffer.data or 0)))
