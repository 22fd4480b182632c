"""Agreement between the processes of a run."""

from collections.abc import Callable
from typing import TypeVar

from accelerate import Accelerator
from accelerate.utils import broadcast_object_list

from ..errors import InputError
from ..signals import request

Result = TypeVar("Result")


def on_main_process(accelerator: Accelerator, function: Callable[[], Result]) -> Result:
    """`function()`'s result, for every process, from the main one. If it raises InputError, the others just leave."""
    outcome: list[Result | InputError | None] = [None]
    if accelerator.is_main_process:
        try:
            outcome = [function()]
        except InputError as error:
            outcome = [error]
    (result,) = broadcast_object_list(outcome)
    if isinstance(result, InputError):
        raise result if accelerator.is_main_process else SystemExit(1)
    return result


def snapshot(accelerator: Accelerator) -> Callable[[], None]:
    """Notes what `accelerator` holds, which is no network yet. Returns a function that makes it forget what it has
    prepared since, before another training in the same process."""
    count = len(accelerator._custom_objects)
    scaler = None if accelerator.scaler is None else accelerator.scaler.state_dict()

    def restore() -> None:
        accelerator.free_memory()
        del accelerator._custom_objects[count:]
        if scaler is not None:
            accelerator.scaler.load_state_dict(scaler)

    return restore


def stop_requested(accelerator: Accelerator) -> bool:
    """True if any process was asked to stop. Every process calls it, and all get the same answer: a signal that comes
    while they agree counts the next time."""
    if accelerator.num_processes == 1:
        return request.signal is not None
    if request.signal:
        accelerator.set_trigger()
    if not accelerator.check_trigger():
        return False
    request.signal = request.signal or "a signal to another process"
    return True
