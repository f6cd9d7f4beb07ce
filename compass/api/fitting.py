"""`compass.fit`: the largest safe batch and the fastest way to train one model, as it is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compass.api.arguments import AnyPath, WorkloadSource, bytes_of, check_count, config_of, path_of, source_of
from compass.files import MODEL_SUFFIX
from compass.optimizer import Request
from compass.optimizer import optimize as run
from compass.planning.request import FITTED, fit_settings
from compass.profile import Profile
from compass.records import Precision, Progress

if TYPE_CHECKING:
    import torch

    from compass.workloads.fixed import Loss


def fit(  # noqa: PLR0913 - all are named
    model: torch.nn.Module | WorkloadSource,
    loader: Any = None,
    loss: Loss | None = None,
    *,
    max_batch: int | None = None,
    effective_batch: int | None = None,
    precision: Precision | Sequence[Precision] | None = None,
    epochs: int | None = None,
    dataset_size: int | None = None,
    memory_limit: int | str | None = None,
    device: str | None = None,
    settings: Mapping[str, Any] | None = None,
    out: AnyPath = Request.out,
    cache: AnyPath | None = None,
    force: bool = False,
    watch: Callable[[Progress], None] = lambda _: None,
) -> Profile:
    """Plan one model as it is, and prove the plan: batch, accumulation, activation checkpointing where the model has it, times.

    The plan is of the stage `production`. A module is written beside the profile, from where worker processes take it.

    Args:
        model: a LightningModule, or a module with `loader` and `loss`; or a workload, by name, class or function.
        loader: the training loader, or a data module; by default the LightningModule's own.
        loss: `loss(model, batch)` for a collated batch on the model's device; by default that of `training_step`.
        max_batch: the most samples in a batch.
        effective_batch: samples in a weight update; smaller batches are accumulated.
        precision: `fp32` (the default), `bf16`, `fp16`, or several, of which the fastest is taken.
        epochs: of the training whose time is told.
        dataset_size: number of training samples; by default the loader's.
        memory_limit: the most that training may use, in bytes or as a size such as `"6GiB"`.
        device: a torch device; by default an accelerator if there is one, else the CPU.
        settings: single settings by dotted key, e.g. `{"space.layers": (6, 6), "space.channels": (128, 128)}` for a family.
        out: path of the profile.
        cache: folder of cached probes.
        force: replace a profile of another workload or dataset; a copy is kept.
        watch: called with the progress.

    Raises:
        InputError: an argument cannot be used, the model has no loss or loader, or cannot be given to another process.
        WorkerError: no probe can be made on this machine.
    """
    check_count("dataset_size", dataset_size)
    changes = fit_settings(max_batch, effective_batch, precision, epochs)
    place = Path(out).expanduser()
    source, n_samples = _source(model, loader, loss, place)
    request = Request(
        config=config_of(None, {**changes, **(settings or {})}),
        stages=FITTED,
        workload=source,
        device=device,
        memory_limit_bytes=bytes_of(memory_limit),
        dataset_size=dataset_size or n_samples,
        out=place,
        cache=path_of(cache),
        force=force,
    )
    return run(request, watch=watch)


def _source(model: Any, loader: Any, loss: Any, out: Path) -> tuple[str, int | None]:
    """Where worker processes find the model, and the number of its samples, if that is known."""
    if isinstance(model, str | type) or (loader is None and loss is None and not hasattr(model, "training_step")):
        return source_of(model), None
    from compass.workloads.fixed import FixedModel, loader_of
    from compass.workloads.model_file import write_model

    fixed = FixedModel(model, loader_of(model, loader), loss)
    path = out.with_name(out.stem + MODEL_SUFFIX).absolute()
    write_model(path, fixed)
    return str(path), fixed.n_samples
