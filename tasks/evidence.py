"""What is kept of a step that was not finite, and where a step can be taken again from.

runs/x/nonfinite_step_00000012/
    step.json               the step, counted from 1 as in metrics.jsonl; its images, and where the first value came up
    batch_0.safetensors     what the network was given, a file a pass
    step_00000011/          a checkpoint from just before the step
Other processes than the main one have folders of their own beside it, with their number behind the name.
"""

import json
from collections.abc import Callable
from pathlib import Path

from tasks.checkpoint import Checkpoint, load_checkpoint
from tasks.data.batch_file import load_batch, save_batch
from tasks.data.sample import Batch
from tasks.loss_watch import NonFiniteStep


def evidence_folder(run: Path, step: int, rank: int = 0) -> Path:
    """Where a process keeps what belongs to a step, counted from 1."""
    return run / f"nonfinite_step_{step:08d}{f'_rank_{rank}' if rank else ''}"


def keep_evidence(
    found: NonFiniteStep, run: Path, rank: int, search: Callable[[], str] | None, save: Callable[[Path], object]
) -> str:
    """Write down a step that was not finite and say what is known about it, in one line.

    Args:
        found: the step.
        run: the run's folder.
        rank: of this process.
        search: takes the step again and tells where the first value came up, or nothing when all were finite; None
            where the weights from before the step are gone.
        save: writes a checkpoint from before the step into a folder.
    """
    first = search() if search else ""  # in all processes, which may have to exchange gradients for it
    if not found.broken:
        return str(found)
    step = found.index + 1
    folder = evidence_folder(run, step, rank)
    folder.mkdir(parents=True, exist_ok=True)
    for number, batch in enumerate(found.batches):
        save_batch(batch, folder / f"batch_{number}.safetensors")
    if search and not rank:
        save(folder)
    told = {
        "step": step,
        "image_ids": [image for batch in found.batches for image in batch.image_ids],
        "files": [file for batch in found.batches for file in batch.files],
        "not_finite": found.broken,
        "first": first,
    }
    (folder / "step.json").write_text(json.dumps(told, indent=1), encoding="utf-8")
    where = f"first in {first}; " if first else "taken again, the step was finite; " if search else ""
    return (
        f"{found} (saved in {folder}); {where}lower --optimizer.lr, set --optimizer.clip_grad_norm, or look at these "
        f"images' annotations; python tools/replay.py {run} --step {step} takes the step again"
    )


def nearest_checkpoint(run: Path, step: int) -> Checkpoint | None:
    """The last checkpoint from before a step, counted from 1; None if there is none.

    Raises:
        UserError: it is damaged.
    """
    return _load(max(_checkpoints(run, lambda done: done < step), default=None, key=lambda folder: folder.name))


def checkpoint_behind(run: Path, step: int) -> Checkpoint | None:
    """The first checkpoint from after a step, whose config was in force then; None if there is none.

    Raises:
        UserError: it is damaged.
    """
    return _load(min(_checkpoints(run, lambda done: done >= step), default=None, key=lambda folder: folder.name))


def saved_batches(run: Path, step: int, rank: int = 0) -> list[Batch] | None:
    """The batches of a step that was not finite, a pass each; None where none were saved.

    Raises:
        UserError: a file is damaged.
    """
    files = evidence_folder(run, step, rank).glob("batch_*.safetensors")
    ordered = sorted(files, key=lambda file: int(file.stem.removeprefix("batch_")))
    return [load_batch(file) for file in ordered] or None


def _checkpoints(run: Path, wanted: Callable[[int], bool]) -> list[Path]:
    folders = (*run.glob("checkpoints/step_*"), *run.glob("nonfinite_step_*/step_*[0-9]"))
    return [folder for folder in folders if folder.is_dir() and wanted(int(folder.name.removeprefix("step_")))]


def _load(folder: Path | None) -> Checkpoint | None:
    return None if folder is None else load_checkpoint(folder, prefer_best=False)
