"""When memory runs out, and how many trials it holds."""

from __future__ import annotations

import gc
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import torch
from torch import nn

from autotune.data.batches import EVALUATION_BATCH
from autotune.errors import UserError, first_line

# Numbers kept for each parameter: itself, its gradient, two moments, an average, and one to work with.
NUMBERS_A_PARAMETER = 6


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory, the device's or the machine's, ran out."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    said = str(error)
    return isinstance(error, RuntimeError) and ("out of memory" in said or "can't allocate memory" in said)


def release(error: BaseException) -> None:
    """Free the tensors that a caught error keeps alive: those of the calls that it ended.

    Its traceback still says where it was raised. Where memory ran out, garbage in cycles and the device's cache go too.
    """
    raised: BaseException | None = error
    while raised is not None:
        traceback.clear_frames(raised.__traceback__)
        raised = raised.__cause__ or raised.__context__
    if out_of_memory(error):
        gc.collect()
        torch.cuda.empty_cache()


@contextmanager
def too_large_said() -> Iterator[None]:
    """Within it, what does not fit into memory is the user's mistake.

    Raises:
        UserError: It does not fit.
    """
    try:
        yield
    except Exception as error:
        if isinstance(error, UserError) or not (out_of_memory(error) or "size calculation overflowed" in str(error)):
            raise
        problem = f"this configuration does not fit ({first_line(error)})"
        raise UserError("memory", problem, "make the model or the data smaller") from error


def free_bytes(device: torch.device) -> int:
    """What can still be allocated on a device."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return int(psutil.virtual_memory().available)


def room(accelerator: object, part: float) -> int:
    """Bytes that trials may take together on an accelerator, of whose memory this part is theirs."""
    on_gpu = torch.cuda.is_available() and accelerator in ("auto", "gpu", "cuda")
    return int(part * free_bytes(torch.device("cuda" if on_gpu else "cpu")))


def member_bytes(network: nn.Module, bytes_a_sample: int, batch_size: int) -> int:
    """What a trial takes, roughly.

    Args:
        network: What it trains.
        bytes_a_sample: What a forward pass keeps for the backward pass, for each sample.
        batch_size: Samples an update.
    """
    parameters = sum(parameter.nbytes for parameter in network.parameters())
    return NUMBERS_A_PARAMETER * parameters + bytes_a_sample * max(batch_size, EVALUATION_BATCH)
