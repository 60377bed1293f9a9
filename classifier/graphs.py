"""CUDA graphs: what a network does on inputs of one shape is recorded once and replayed without Python.

A graph reads and writes the same memory each time, so inputs are copied in, answers are copied out, and one thread at a
time replays. Where recording fails, the network runs as it always does. While a graph is recorded, nobody may wait for
the whole GPU: that would be an error, and end the recording (CUDA C++ Programming Guide, CUDA graphs).
"""

import threading
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

WARM_UP = 3  # runs before recording: cuDNN and the allocator choose then (PyTorch's notes on CUDA graphs)
MOST_SHAPES = 12  # four batch sizes of three canvases; other shapes run without a graph

_recording = threading.Lock()


class Recording(NamedTuple):
    """A network on one shape: fill `given`, call `replay`, read `answer`."""

    given: Tensor
    replay: Callable[[], object]
    answer: Tensor


def record(module: nn.Module, example: Tensor, pool: Any = None) -> Recording:
    """Record a network on a GPU.

    Args:
        module: on the GPU, in evaluation mode.
        example: an input; only its shape and layout matter.
        pool: memory that graphs share which never run at the same time.

    Raises:
        RuntimeError: the network does what cannot be recorded, or memory ends.
    """
    with _recording, torch.cuda.device(example.device):
        given = example.clone(memory_format=torch.preserve_format)
        stream: Any = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(WARM_UP):
                module(given)
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        # Of this thread alone: others go on copying and allocating meanwhile.
        with torch.cuda.graph(graph, pool=pool, stream=stream, capture_error_mode="thread_local"):
            answer = module(given)
    return Recording(given, graph.replay, answer)


def wait_for_the_gpu() -> None:
    """Wait until the GPU has done all that it was given; a graph that another thread is recording is finished first."""
    with _recording:
        torch.cuda.synchronize()


class Graphed:
    """Runs a network as CUDA graphs, one per shape of its input; from any thread.

    Args:
        module: on the GPU, in evaluation mode.
        recorder: records it; replaced in tests.
    """

    def __init__(self, module: nn.Module, recorder: Callable[[nn.Module, Tensor, Any], Recording] = record) -> None:
        self._module, self._record = module, recorder
        self._recordings: dict[tuple[int, ...], Recording | None] = {}
        self._pool: Any = None
        self._one_at_a_time = threading.Lock()

    def __call__(self, batch: Tensor) -> Tensor:
        """Return what the network gives for a batch."""
        with self._one_at_a_time:
            recording = self._recording(batch)
            if recording is not None:
                recording.given.copy_(batch)
                recording.replay()
                return recording.answer.clone()
        answer: Tensor = self._module(batch)
        return answer

    def _recording(self, batch: Tensor) -> Recording | None:
        shape = tuple(batch.shape)
        if shape not in self._recordings:
            self._recordings[shape] = self._recorded(batch) if len(self._recordings) < MOST_SHAPES else None
        return self._recordings[shape]

    def _recorded(self, batch: Tensor) -> Recording | None:
        """Return a new recording; None, from now on, if there can be none."""
        try:
            if self._pool is None and batch.is_cuda:
                self._pool = torch.cuda.graph_pool_handle()
            with torch.inference_mode(False), torch.no_grad():  # else nothing could be copied in outside that mode
                return self._record(self._module, batch, self._pool)
        except torch.cuda.OutOfMemoryError:
            raise  # smaller batches may fit
        except RuntimeError as error:
            why = str(error).splitlines()[0] if str(error) else type(error).__name__
            warnings.warn(f"no CUDA graph of {tuple(batch.shape)}, running without one: {why}", stacklevel=2)
            return None
