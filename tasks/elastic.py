"""`torchrun --max-restarts N` starts all processes again when one is lost; the run goes on from its last checkpoint."""

import os
from pathlib import Path

from accelerate.accelerator import Accelerator
from accelerate.utils.operations import broadcast_object_list
from pydantic import ValidationError

from backbones.errors import UserError
from tasks.checkpoint import latest_checkpoint
from tasks.config import Experiment
from tasks.run_folder import RunFolder


def run_begun_before_restart(config: Experiment, out: Path | None, accelerator: Accelerator) -> Path | None:
    """The run in `out` that earlier processes of this launch began; None if there is none, or nothing restarts.

    Args:
        config: the resolved experiment, which must be the one that the run began with.
        out: the run folder asked for, on a disk that all hosts share.
        accelerator: the processes.

    Raises:
        UserError: no folder was given, it holds a run of another config, or torchrun shares its store with the
            processes.
    """
    if not int(os.environ.get("TORCHELASTIC_MAX_RESTARTS", "0")):
        return None
    if out is None:
        raise UserError(
            "torchrun was given --max-restarts, but a restart could not find the run; give its folder with --out"
        )
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True":
        # https://github.com/pytorch/pytorch/issues/135712: what the processes of before wrote there is still in it.
        raise UserError(
            "torchrun was given --max-restarts, but restarted processes would look for each other under the addresses "
            "of the lost ones; start it with TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 in its environment"
        )
    begun: Path | None = None
    if accelerator.is_main_process and out.is_dir():
        folder = RunFolder(out)
        if latest_checkpoint(folder.checkpoints) is not None:
            _require_same_config(folder, config)
            begun = out
        else:
            folder.clear_vain_start()
    found: Path | None = broadcast_object_list([begun])[0]
    return found


def _require_same_config(folder: RunFolder, config: Experiment) -> None:
    try:
        begun = Experiment.model_validate_json(folder.config.read_text(encoding="utf-8"))
    except ValidationError as error:
        raise UserError(f"{folder.config}: not a config of this version ({error.errors()[0]['msg']})") from None
    # Of a version without some field, the run began with what is its default now.
    before, now = begun.model_dump(mode="json"), config.model_dump(mode="json")
    if before != now:
        sections = ", ".join(name for name in now if now[name] != before[name])
        raise UserError(
            f"--out {folder.path}: holds a run of another config (other: {sections}); choose another --out, or go on "
            f"with that run by --resume {folder.path}"
        )
