"""What is noted when a run starts or is resumed: the command, the config as its file has it, the machine."""

from datetime import datetime
from typing import Any

from tasks.config import Experiment
from tasks.experiment_file import Origin
from tasks.machine import describe_machine


def describe_start(step: int, device: str, config: Experiment, origin: Origin | None) -> dict[str, Any]:
    """A line of starts.jsonl.

    Args:
        step: steps done already.
        device: device, precision and processes, as `tasks.device.describe` says them.
        config: the resolved experiment.
        origin: where it comes from; None where no command line was involved.

    Returns:
        `step`, `time`, `device`, `machine`, `config`; `command`, `file` and `as_read` of `Origin`, if it is known.
    """
    start: dict[str, Any] = {
        "step": step,
        "time": datetime.now().astimezone().isoformat(timespec="seconds"),
        "device": device,
        "machine": describe_machine(),
        "config": config.model_dump(mode="json"),
    }
    if origin is not None:
        start |= {"command": list(origin.command), "file": str(origin.file), "as_read": origin.as_read}
    return start
