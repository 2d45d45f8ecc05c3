"""What is checked at construction, and how a refusal is worded: the same words in YAML and in Python."""

import jax


class Refusal(ValueError):  # noqa: N818 - a refusal is the answer to a value, not a fault
    """A value of the user's cannot be used. ``str(refusal)`` is complete and meant for the user.

    Attributes:
      name: of the argument or key; empty if ``remedy`` says it all.
      value: what was given.
      remedy: what is allowed, or what to do.

    Example:
      >>> str(Refusal("horizon", -1, "must be greater than 0"))
      'horizon = -1: must be greater than 0'
    """

    # ``args`` stay those of the call, as ``BaseException.__new__`` keeps them, so that subclasses can be pickled too.
    def __init__(self, name: str, value: object, remedy: str) -> None:
        self.name, self.value, self.remedy = name, value, remedy

    def __str__(self) -> str:
        return f"{self.name} = {self.value!r}: {self.remedy}" if self.name else self.remedy


def require(condition: bool, name: str, value: object, remedy: str) -> None:
    """Raise a :class:`Refusal` that names the value and the remedy unless ``condition`` holds.

    Example:
      >>> require(3 > 0, "horizon", 3, "give a positive whole number")
    """
    if not condition:
        raise Refusal(name, value, remedy)


def require_number(name: str, value: object, *, above: float | None = None, at_least: float | None = None) -> None:
    """Check a hyperparameter's range at construction; traced values (a vmapped sweep) pass unchecked.

    Example:
      >>> require_number("inner_lr", 0.1, at_least=0)
    """
    if isinstance(value, jax.core.Tracer):
        return
    values = jax.device_get(value)
    if above is not None:
        require(
            bool((values > above).all() if hasattr(values, "all") else values > above),
            name,
            value,
            f"must be greater than {above:g}",
        )
    if at_least is not None:
        require(
            bool((values >= at_least).all() if hasattr(values, "all") else values >= at_least),
            name,
            value,
            f"must be at least {at_least:g}",
        )
