"""One run of training, from a recipe to a folder that `Tokenizer.from_pretrained` loads.

Everything random in a step is a function of (seed, step, rank), and so is its batch: a run that was killed and goes on from its last
checkpoint takes the very steps that it would have taken. (Only `train.minutes` lets the time have a say, in the learning rate and the end.)
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar, cast

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.tracking import get_available_trackers
from accelerate.utils import DistributedDataParallelKwargs
from safetensors import SafetensorError
from torch import Tensor, nn

from tokkit.data.base import mixed
from tokkit.data.captions import Captioned
from tokkit.data.loader import batches
from tokkit.errors import InputError, TokkitError
from tokkit.files import make_folder, replacing
from tokkit.metrics.codebook_usage import CodebookUsage
from tokkit.modalities.base import FieldBatch
from tokkit.recipe import Recipe, specs
from tokkit.registry import Spec
from tokkit.tokenizer import RECIPE_FILE, WEIGHTS_FILE, Tokenizer
from tokkit.train import checkpoint
from tokkit.train.adversary import Adversary
from tokkit.train.balancer import Balancer
from tokkit.train.clock import Clock
from tokkit.train.ema import Average
from tokkit.train.judges import Judges
from tokkit.train.log import METRICS_FILE, Bar, MetricsFile
from tokkit.train.look import look
from tokkit.train.optim import clip_gradients, learning_rate, make_optimizer, set_learning_rate
from tokkit.train.start import start_from

T = TypeVar("T")
Batch = Tensor | FieldBatch | Captioned


class NotFinite(TokkitError):
    """A loss or a gradient became NaN or infinite; the run stops and its last checkpoint stays."""


def train(recipe: Recipe, out: str | Path, *, resume: bool = False, force: bool = False, cpu: bool = False) -> Path:
    """Train the tokenizer of a recipe.

    Args:
        recipe: with the sections `data`, `losses` and `train`.
        out: receives recipe.yaml, model.safetensors, metrics.jsonl, samples/ and checkpoints/.
        resume: go on from the newest checkpoint in `out`; start where there is none.
        force: start anew in a folder that holds a run.
        cpu: do not use a GPU that is there.

    Returns:
        The folder.

    Raises:
        RecipeError: a section is missing.
        InputError: `out` holds a run and neither `resume` nor `force` is set, or the run to resume had another recipe.
        NotFinite: naming the step and the term.
        TokkitError: the run's files cannot be written.
    """
    out = Path(out)
    occupied = any((out / name).exists() for name in (WEIGHTS_FILE, METRICS_FILE, checkpoint.FOLDER))
    if occupied and not (resume or force):
        raise InputError(f"{out} holds a run already; pass --resume to go on with it, --force to start anew, or another --out")
    run = Run(recipe, out, cpu=cpu)
    if resume:
        run.resume()
    elif run.accelerator.is_main_process:  # only now: where the new run cannot even be set up, the old one stays
        for old in checkpoint.found(out):
            old.unlink()
    run.go()
    return out


class Run:
    """The state of a run: modules, optimizers, averages, and the step it is at."""

    def __init__(self, recipe: Recipe, out: Path, *, cpu: bool = False):
        self.recipe, self.out = recipe, out
        self.options = recipe.section("train")
        precision = {"fp32": "no", "bf16": "bf16", "fp16": "fp16"}[self.options.precision]
        usable = ["all", *map(str, get_available_trackers())]
        if unusable := [name for name in self.options.trackers if name not in usable]:
            raise InputError(f"train.trackers: {', '.join(unusable)}: unknown or not installed; usable here: {', '.join(usable)}")
        AcceleratorState._reset_state()  # an earlier run of this process may have had another precision
        self.accelerator = Accelerator(
            mixed_precision=precision,
            cpu=cpu,
            log_with=list(self.options.trackers) or None,
            project_dir=str(out),
            kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)],
        )
        self.device = self.accelerator.device
        shares = self.accelerator.num_processes * self.options.accumulate
        if self.options.batch_size % shares:
            raise InputError(f"train.batch_size={self.options.batch_size} must be a multiple of processes x accumulate = {shares}")
        torch.manual_seed(self.options.seed)
        self.tokenizer = Tokenizer.from_recipe(recipe)
        if self.options.init_from is not None:
            start_from(self.tokenizer, self.options.init_from, self.options.init_parts)
        if self.options.freeze_encoder:
            self.tokenizer.encoder.requires_grad_(False)
            self.tokenizer.to_quantizer.requires_grad_(False)
        self.tokenizer.to(self.device).train()
        self.judges = Judges(specs(recipe.section("losses")), self.tokenizer, self.accelerator.autocast)
        self.trained = nn.ModuleList([self.tokenizer, self.judges.module])
        modality = self.tokenizer.modality
        data = recipe.section("data")
        self.source = data.build().open(modality, split="train")
        self.held_out = cast(Spec, recipe.evaluate.data or data).build().open(modality, split="val")
        self.metrics = [spec.build() for spec in specs(recipe.evaluate.metrics)]
        self._set_memory_and_kernels()
        self.model, self.optimizer = self.accelerator.prepare(self.tokenizer, make_optimizer(self.trained, self.options))
        self.adversary: Adversary | None = None
        if recipe.adversarial is not None:
            self.adversary = Adversary(recipe.adversarial, self.options, self.device, self.accelerator.prepare)
        self.balancer = Balancer.of_run(recipe, self.judges.names, self.judges.module, self.device)
        self.average = Average(self.tokenizer, self.options.ema) if self.options.ema is not None else None
        self.usage = CodebookUsage(self.tokenizer.quantizer.codebook_sizes)
        self.clock = Clock(self.options, self.device, self.accelerator.num_processes)
        self.step = 0
        self._rate = 0.0
        self._window: list[tuple[int, dict[str, Tensor]]] = []
        self._checked = 0

    def resume(self) -> None:
        """Take up the newest checkpoint, where there is one."""
        state = checkpoint.load(self.out, self.device)
        if state is None:
            return
        checkpoint.check_same_recipe(self.recipe, state["recipe"], self.out)
        self.tokenizer.load_state_dict(state["tokenizer"])
        self.optimizer.load_state_dict(state["optimizer"])
        for name, part in self._optional_parts().items():
            part.load_state_dict(state[name])
        self.step = state["step"]

    def go(self) -> None:
        """Train to the last step and write the tokenizer."""
        main = self.accelerator.is_main_process
        if main:
            make_folder(self.out)
            with replacing(self.out / RECIPE_FILE) as part:
                part.write_text(self.recipe.to_yaml(), encoding="utf-8")
            self.metrics_file = MetricsFile(self.out, self.step)
        if self.options.trackers:
            self.accelerator.init_trackers(self.recipe.name)
        with Bar(self.options.steps, self.step, shown=main) as self.bar:
            self._window_start, self._window_step = time.perf_counter(), self.step
            self.clock.start(self.step)
            for batch in self._batches():
                self._take_step(batch.to(self.device, non_blocking=True))
                self.step += 1
                self.clock.tick(self.step)
                self.bar.advance(self.step)
                last = self.step == self.options.steps or self.clock.over
                if self.device.type == "cpu" or self._due("log_every") or last:
                    self._check_finite()
                if self._due("log_every") or last:
                    self._log()
                if self._due("checkpoint_every") or last:
                    self._save()  # before looking, which takes a while: a run that is stopped there keeps its last step
                if self.step % self.recipe.evaluate.every == 0 or self._due("sample_every") or last:
                    self._look()
                if last:
                    break
        if self.options.trackers:
            self.accelerator.end_training()

    def _batches(self) -> Iterator[Batch]:
        if self.clock.over:
            return iter(())
        return batches(
            self.source,
            batch_size=self.options.batch_size // self.accelerator.num_processes,
            seed=self.options.seed,
            start=self.step,
            stop=self.options.steps,
            rank=self.accelerator.process_index,
            world_size=self.accelerator.num_processes,
            workers=self.options.workers,
            pin_memory=self.device.type == "cuda",
        )

    def _take_step(self, batch: Batch) -> None:
        torch.manual_seed(mixed(self.options.seed, self.step, self.accelerator.process_index))
        torch.compiler.cudagraph_mark_step_begin()  # what the graphs of the last step returned may be overwritten
        if self.options.channels_last and isinstance(batch, Tensor) and batch.ndim == 4:
            batch = batch.contiguous(memory_format=torch.channels_last)
        self.tokenizer.quantizer.progress = self.clock.progress
        terms: dict[str, Tensor] = {}
        pairs = []
        micro: Sequence[Batch] = batch.chunk(self.options.accumulate)
        for part in self._parts(self.model, micro):
            weighted, pair = self._generator_terms(part)
            self._backward(weighted, terms)
            pairs.append(pair)
        self.judges.average_gradients()
        self._rate = learning_rate(self.step, self.options, progress=self.clock.progress)
        terms["gradient_norm"] = self._optimize(self.optimizer, self.trained, self._rate)
        if self.adversary is not None and self.step >= self.adversary.section.start:
            for target, fake in self._parts(self.adversary.module, pairs):
                with self.accelerator.autocast():
                    weighted = self.adversary.discriminator_terms(target, fake)
                self._backward(weighted, terms)
            rate = learning_rate(self.step, self.options, self.adversary.peak, self.clock.progress)
            terms["discriminator_gradient_norm"] = self._optimize(self.adversary.optimizer, self.adversary.module, rate)
        if self.average is not None:
            self.average.update(self.tokenizer)
        self._window.append((self.step, terms))

    def _generator_terms(self, batch: Batch) -> tuple[dict[str, Tensor], tuple[Tensor, Tensor]]:
        """The weighted terms of one part of the batch, and (target, reconstruction) for the discriminators."""
        output = self.model(batch.values if isinstance(batch, Captioned) else batch)
        output.captions = list(batch.captions) if isinstance(batch, Captioned) else None
        modality = self.tokenizer.modality
        target = modality.normalize(output.target)
        fake = modality.shown(modality.normalize(output.reconstruction.float()), target)
        terms = self.judges.terms(target, fake, output)
        if self.adversary is not None and self.step >= self.adversary.section.start:
            with self.accelerator.autocast():
                terms |= self.adversary.generator_terms(target, fake, _total(terms), self.tokenizer.decoder.last_layer)
        if self.balancer is not None:
            terms = self.balancer(terms, fake)
        terms["quantizer"] = output.loss
        terms |= output.decoder_terms
        self.usage.update(output.codes)
        self._details = output.terms
        return terms, (target, fake.detach())

    def _backward(self, weighted: dict[str, Tensor], terms: dict[str, Tensor]) -> None:
        """Gradients of one part's share of the batch, whose terms are added to the step's."""
        share = 1 / self.options.accumulate
        for name, value in weighted.items():
            terms[name] = terms.get(name, torch.zeros_like(value)) + value.detach() * share
        self.accelerator.backward(_total(weighted) * share)

    def _optimize(self, optimizer: Any, module: nn.Module, rate: float) -> Tensor:
        self.accelerator.unscale_gradients(optimizer)
        norm = clip_gradients(module.parameters(), self.options.clip)
        set_learning_rate(optimizer, rate)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return norm

    def _parts(self, module: nn.Module, items: Sequence[T]) -> Iterator[T]:
        """The parts of a batch one by one; processes average their gradients of `module` after the last only."""
        for item in items[:-1]:
            with self.accelerator.no_sync(module):
                yield item
        yield items[-1]

    def _check_finite(self) -> None:
        """Raise at the first step since the last check that had a term which is not finite."""
        for step, terms in self._window[self._checked :]:
            checked = {name: value for name, value in terms.items() if self.options.precision != "fp16" or "norm" not in name}
            if not checked or bool(torch.stack([value.detach().float() for value in checked.values()]).isfinite().all()):
                continue
            bad = ", ".join(f"{name} is {value.item()}" for name, value in checked.items() if not bool(value.isfinite()))
            kept = checkpoint.found(self.out)
            told = f"the last checkpoint is {kept[-1]}" if kept else "there is no checkpoint yet"
            raise NotFinite(f"step {step}: {bad}; {told}; a lower train.lr or train.clip, or precision bf16 for fp16, often helps")
        self._checked = len(self._window)

    def _log(self) -> None:
        seconds = time.perf_counter() - self._window_start
        samples = (self.step - self._window_step) * self.options.batch_size
        values: dict[str, float] = {}
        for name in self._window[-1][1]:
            present = [terms[name].detach().float() for _, terms in self._window if name in terms]
            values[name] = torch.stack(present).mean().item()
        values["loss"] = sum(value for name, value in values.items() if "norm" not in name and name not in ("discriminator", "lecam"))
        values |= {f"quantizer/{name}": value.float().mean().item() for name, value in self._details.items()}
        values |= {f"codebook/{name}": value for name, value in self.usage.compute().summary().items()}
        values["learning_rate"] = self._rate
        values["samples_per_second"] = samples / seconds
        if self.accelerator.is_main_process:
            self.metrics_file.write(self.step, values)
            shown: list[str] = [*self.judges.names, "quantizer", "generator", "discriminator", "samples_per_second"]
            self.bar.describe(self.step, {name: values[name] for name in shown if name in values})
        if self.options.trackers:
            self.accelerator.log(values, step=self.step)
        self.usage.reset()
        self._window, self._checked = [], 0
        self._window_start, self._window_step = time.perf_counter(), self.step

    def _look(self) -> None:
        """Reconstruct held-out samples with the weights that would be saved; the time it takes does not count as training."""
        started = time.perf_counter()
        if self.accelerator.is_main_process:
            with self._saved_weights():
                values = look(self.tokenizer, self.held_out, self.metrics, self.out, self.step, self.recipe.evaluate.limit)
            if values:
                self.metrics_file.write(self.step, values)
                self.bar.describe(self.step, values)
        self.accelerator.wait_for_everyone()
        self._window_start += time.perf_counter() - started

    def _save(self) -> None:
        self._check_finite()
        if self.accelerator.is_main_process:
            state = {
                "step": self.step,
                "recipe": self.recipe.to_yaml(),
                "tokenizer": self.tokenizer.state_dict(),
                "optimizer": self.optimizer.state_dict(),
            }
            state |= {name: part.state_dict() for name, part in self._optional_parts().items()}
            try:
                with self._saved_weights():
                    self.tokenizer.save(self.out, recipe=self.recipe, force=True)
                # Second: a run that was killed in between takes these steps again, where it would find nothing left to do after the last.
                checkpoint.save(self.out, self.step, state)
            except (OSError, RuntimeError, SafetensorError) as error:  # a full disk is any of them
                told = f"step {self.step}: cannot write into {self.out} ({str(error).splitlines()[0]})"
                raise TokkitError(f"{told}; with room on the disk, --resume goes on from the last checkpoint") from error
        self.accelerator.wait_for_everyone()

    def _optional_parts(self) -> dict[str, Any]:
        """What has a state only in some runs, by its name in the checkpoint."""
        parts = {"adversary": self.adversary, "balancer": self.balancer, "average": self.average, "scaler": self.accelerator.scaler}
        parts["clock"] = self.clock if self.options.minutes is not None else None
        parts["losses"] = self.judges if self.judges.state_dict() else None
        return {name: part for name, part in parts.items() if part is not None}

    @contextmanager
    def _saved_weights(self) -> Iterator[None]:
        """Inside the block the tokenizer is as it will be used: in eval mode, with the averaged weights where there are some."""
        self.tokenizer.eval()
        if self.average is not None:
            self.average.swap(self.tokenizer)
        try:
            yield
        finally:
            if self.average is not None:
                self.average.swap(self.tokenizer)
            self.tokenizer.train()

    def _due(self, option: str) -> bool:
        return self.step % getattr(self.options, option) == 0

    def _set_memory_and_kernels(self) -> None:
        if self.options.channels_last and self.tokenizer.modality.rank == 2:
            self.tokenizer.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        if self.device.type == "cuda":
            torch.backends.cudnn.benchmark = True
            if self.options.precision != "fp32":
                torch.set_float32_matmul_precision("high")
        if self.options.compile:
            mode = "reduce-overhead" if self.options.cuda_graphs and self.device.type == "cuda" else "default"
            self.tokenizer.encoder.compile(mode=mode)
            self.tokenizer.decoder.compile(mode=mode)
            if self.options.compile_losses:
                self.judges.compile(mode)


def _total(terms: dict[str, Tensor]) -> Tensor:
    return torch.stack(list(terms.values())).sum()
