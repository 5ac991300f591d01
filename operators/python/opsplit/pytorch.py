"""Runs the tasks of an operator in PyTorch, on the tensors where they lie.

python3 -m opsplit.pytorch --socket ... --deployment ... --operator ...
"""

from __future__ import annotations

import contextlib
import importlib.util
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    import torch

from opsplit import Gpu, Task, Tensor, run_backend
from opsplit._backend import RunTask
from opsplit._graph import Framework, function_as_task, nodes_as_task


def make_task(task: Task) -> RunTask:
    """Of any nodes whose ops _pytorch_ops has."""
    return nodes_as_task(_framework(task.gpu))(task)


def serve(module: Callable[..., Any], argv: Sequence[str] | None = None) -> NoReturn:
    """The whole of a program that runs a module of yours in place of its operator's nodes.

    `module`, a torch.nn.Module (put into evaluation mode) or any callable, is called with the task's inputs in their
    order and returns its output, or a tuple of them. They must have the very shape (or one no larger, of an output that
    varies) and dtype, are copied, and the bytes counted. A request whose input it writes to (ReLU(inplace=True), say) fails.

    Where the operator is on a GPU the module is moved there. It runs on the operator's stream, which is the current one.
    """
    import torch

    from opsplit._pytorch_ops import device_of

    if isinstance(module, torch.nn.Module):
        module.eval()

    def make(task: Task) -> RunTask:
        if task.gpu is not None and isinstance(module, torch.nn.Module):
            module.to(device_of(task.gpu))
        return function_as_task(_framework(task.gpu), module)(task)

    run_backend(make, argv, gpu=True)


def _framework(gpu: Gpu | None = None) -> Framework:
    import torch  # main() has looked whether it is there

    from opsplit._pytorch_ops import OPS, device_of

    def running(threads: int) -> torch.inference_mode:
        if torch.get_num_threads() != threads:  # of the thread that computes, which is not the one that has made it
            torch.set_num_threads(threads)
        return torch.inference_mode()

    @contextlib.contextmanager
    def running_on(gpu: Gpu) -> Iterator[None]:
        with torch.inference_mode(), torch.cuda.stream(torch.cuda.ExternalStream(gpu.stream, gpu.number)):
            yield

    def view(tensor: Tensor) -> torch.Tensor:
        with torch.inference_mode(False):  # what is made in that mode does not count who writes to it
            return torch.from_dlpack(tensor)

    return Framework(
        name="pytorch",
        ops=OPS,
        constant=lambda array: _constant(array).to(device_of(gpu)),
        view=view,
        place=torch.from_dlpack,
        tensor=torch.Tensor,
        described=lambda tensor: (str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape)),
        store=_store,
        running=running if gpu is None else lambda threads: running_on(gpu),
        written=lambda tensor: tensor._version > 0,
    )


def _constant(array: Any) -> torch.Tensor:
    """In the same memory, to which nothing writes."""
    import torch

    if isinstance(array, Tensor):  # bfloat16, which NumPy does not have
        return torch.from_dlpack(array)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given NumPy array is not writ", UserWarning)
        return torch.from_numpy(array)


def _store(result: torch.Tensor, output: Tensor) -> int:
    import torch

    if result.data_ptr() == output.data_ptr and result.is_contiguous():
        return 0
    torch.from_dlpack(output).copy_(result)
    return result.numel() * result.element_size()


def main() -> NoReturn:
    if importlib.util.find_spec("torch") is None:
        sys.exit("opsplit.pytorch: PyTorch is not installed: pip install torch, or Debian's python3-torch")
    run_backend(make_task, gpu=True)


if __name__ == "__main__":
    main()
