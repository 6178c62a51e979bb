"""How fast a causal tokenizer streams: time for each frame, what a listener waits, and whether memory stays as it is."""

from __future__ import annotations

import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tokkit.data.tones import Tones
from tokkit.evaluate.provenance import provenance
from tokkit.networks.causal import State
from tokkit.streaming import Stream
from tokkit.tokenizer import Tokenizer


@dataclass(frozen=True)
class RealTimeFactor:
    """Seconds of computing for a second of sound, of single frames."""

    mean: float
    p50: float
    p95: float
    p99: float


@dataclass(frozen=True)
class StreamReport:
    """What streaming one sound took.

    Attributes:
        seconds: of sound.
        frames: that were timed, one at a time; those of the warm-up are left out.
        frame_seconds: of sound in a frame: what the encoder waits for.
        parameters: of the tokenizer.
        encode, decode, both: real-time factors.
        first_seconds: computing until the first frame is decoded, in a new stream.
        latency_seconds: a frame, and the 95th percentile of what encoding and decoding it takes.
        codes_equal: fraction of the codes that are those of the whole sound at once.
        largest_difference: of a sample to decoding the whole at once.
        state_bytes: of the streams, a third of the way in and at the end.
        memory_bytes: of the process (of the allocator of the GPU), at the same moments.
    """

    seconds: float
    frames: int
    frame_seconds: float
    parameters: int
    encode: RealTimeFactor
    decode: RealTimeFactor
    both: RealTimeFactor
    first_seconds: float
    latency_seconds: float
    codes_equal: float
    largest_difference: float
    state_bytes: tuple[int, int]
    memory_bytes: tuple[int, int]


def measure(tokenizer: Tokenizer, *, sound: Tensor | None = None, seconds: float = 30.0, warmup: int = 10) -> StreamReport:
    """Stream a sound frame by frame and compare it to the whole.

    Args:
        tokenizer: a causal one, on the device to measure.
        sound: [C, T] in the public range; generated syllables when not given.
        seconds: of generated sound.
        warmup: first frames whose times do not count.

    Raises:
        InputError: the tokenizer cannot stream.
    """
    if sound is None:
        sound = Tones(seconds=seconds).open(tokenizer.modality).sample(0).values
    stride = tokenizer.encoder.stride
    sound = sound[:, : sound.shape[-1] // stride * stride].to(tokenizer.device)
    frames = sound.split(stride, -1)
    frame_seconds = stride / (tokenizer.modality.sample_rate or 1)
    times: list[tuple[float, float]] = []
    codes, heard = [], []
    marks: list[tuple[int, int]] = []
    with Stream.of(tokenizer) as stream:
        stream.decode(stream.encode(frames[0]))
        stream.reset()
        for index, frame in enumerate(frames):
            started = _now(tokenizer)
            codes.append(stream.encode(frame))
            encoded = _now(tokenizer)
            heard.append(stream.decode(codes[-1]))
            times.append((encoded - started, _now(tokenizer) - encoded))
            if index in (len(frames) // 3, len(frames) - 1):
                marks.append((_bytes(stream._encoder_state) + _bytes(stream._decoder_state), _memory(tokenizer.device)))
    whole = tokenizer.encode(sound)
    streamed = torch.cat(codes, 1).cpu()
    difference = (torch.cat(heard, -1) - tokenizer.decode(whole)).abs().amax()
    counted = torch.tensor(times[min(warmup, len(times) - 1) :], dtype=torch.float64)
    return StreamReport(
        seconds=sound.shape[-1] / (tokenizer.modality.sample_rate or 1),
        frames=len(counted),
        frame_seconds=frame_seconds,
        parameters=sum(parameter.numel() for parameter in tokenizer.parameters()),
        encode=_factor(counted[:, 0] / frame_seconds),
        decode=_factor(counted[:, 1] / frame_seconds),
        both=_factor(counted.sum(1) / frame_seconds),
        first_seconds=sum(times[0]),
        latency_seconds=frame_seconds + float(counted.sum(1).quantile(0.95)),
        codes_equal=float((streamed == whole.codes).double().mean()),
        largest_difference=float(difference),
        state_bytes=(marks[0][0], marks[-1][0]),
        memory_bytes=(marks[0][1], marks[-1][1]),
    )


def describe(report: StreamReport, tokenizer: Tokenizer) -> dict[str, Any]:
    """The measurement with what it was made on."""
    settings: dict[str, Any] = {"threads": torch.get_num_threads(), "device": str(tokenizer.device), "precision": tokenizer.precision}
    settings["load"] = [round(load, 2) for load in os.getloadavg()]  # of the machine: what else ran makes frames late
    return {"bench": "stream", **provenance(), "tokenizer": tokenizer.name, **settings, **asdict(report)}


def _factor(factors: Tensor) -> RealTimeFactor:
    p50, p95, p99 = factors.quantile(torch.tensor([0.5, 0.95, 0.99], dtype=torch.float64)).tolist()
    return RealTimeFactor(float(factors.mean()), p50, p95, p99)


def _now(tokenizer: Tokenizer) -> float:
    if tokenizer.device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def _bytes(state: State) -> int:
    tensors = [item for value in state.values() for item in (value if isinstance(value, tuple) else (value,))]
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors if isinstance(tensor, Tensor))


def _memory(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.memory_allocated(device)
    status = Path("/proc/self/statm")
    return int(status.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") if status.exists() else 0
