"""CUDA graphs with a recorder that a CPU can play: answers are one's own, failures fall back, memory errors pass."""

from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from classifier.graphs import MOST_SHAPES, Graphed, Recording, record, wait_for_the_gpu


class Recorder:
    """Records as CUDA does: the same memory is read and written each time."""

    def __init__(self, error: Exception | None = None) -> None:
        self.shapes: list[tuple[int, ...]] = []
        self.error = error

    def __call__(self, module: nn.Module, example: Tensor, pool: Any) -> Recording:
        self.shapes.append(tuple(example.shape))
        if self.error is not None:
            raise self.error
        given, answer = example.clone(), module(example)
        return Recording(given, lambda: answer.copy_(module(given)), answer)


class Doubled(nn.Module):
    """Twice its input."""

    def forward(self, x: Tensor) -> Tensor:
        return x * 2


def test_a_shape_is_recorded_once_and_answers_are_not_overwritten() -> None:
    recorder = Recorder()
    run = Graphed(Doubled(), recorder)
    first, second = run(torch.ones(2, 3)), run(torch.full((2, 3), 5.0))
    assert first.unique().tolist() == [2]
    assert second.unique().tolist() == [10]
    assert run(torch.ones(1, 3)).shape == (1, 3)
    assert recorder.shapes == [(2, 3), (1, 3)]


def test_recordings_serve_in_and_out_of_inference_mode() -> None:
    run = Graphed(Doubled(), Recorder())
    with torch.inference_mode():
        run(torch.ones(2, 3))
    with torch.no_grad():
        assert run(torch.full((2, 3), 3.0)).unique().tolist() == [6]


def test_what_cannot_be_recorded_runs_without_and_is_tried_once() -> None:
    recorder = Recorder(RuntimeError("operation not permitted when stream is capturing\nmore"))
    run = Graphed(Doubled(), recorder)
    with pytest.warns(UserWarning, match=r"no CUDA graph of \(2, 3\), running without one: operation not permitted"):
        assert run(torch.ones(2, 3)).unique().tolist() == [2]
    assert run(torch.ones(2, 3)).unique().tolist() == [2]
    assert len(recorder.shapes) == 1


def test_out_of_memory_is_for_the_caller_who_takes_smaller_batches() -> None:
    with pytest.raises(torch.cuda.OutOfMemoryError):
        Graphed(Doubled(), Recorder(torch.cuda.OutOfMemoryError("no memory")))(torch.ones(2, 3))


def test_many_shapes_run_without_graphs() -> None:
    recorder = Recorder()
    run = Graphed(Doubled(), recorder)
    for count in range(1, MOST_SHAPES + 5):
        assert run(torch.ones(count)).tolist() == [2.0] * count
    assert len(recorder.shapes) == MOST_SHAPES


def test_threads_do_not_mix_their_answers() -> None:
    run = Graphed(Doubled(), Recorder())
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda value: run(torch.full((50, 50), float(value))), range(40)))
    assert [answer.unique().tolist() for answer in found] == [[2.0 * value] for value in range(40)]


def test_nobody_waits_for_the_whole_gpu_while_a_graph_is_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Recording is pretended: the first thing that it does on a GPU is to name that GPU."""
    waited, recording = Event(), Event()

    class Naming:
        def __init__(self, device: torch.device) -> None:
            recording.set()
            assert not waited.wait(0.05)
            raise RuntimeError("no GPU")

    monkeypatch.setattr(torch.cuda, "device", Naming)
    monkeypatch.setattr(torch.cuda, "synchronize", waited.set)
    with ThreadPoolExecutor(1) as pool:
        recorded = pool.submit(record, Doubled(), torch.ones(1))
        recording.wait()
        wait_for_the_gpu()
        assert waited.is_set()
        with pytest.raises(RuntimeError, match="no GPU"):
            recorded.result()
