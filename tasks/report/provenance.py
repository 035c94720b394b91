"""What a run was made with: its settings and where each comes from, the machine, and what it cost."""

import shlex
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from tasks.report.blocks import Block, Command, Facts, Section, Table, Text, Tile, Tiles
from tasks.report.numbers import duration, memory, moment
from tasks.report.run_reading import Record, Run
from tasks.report.settings import shown, sources


def settings_section(run: Run) -> Section:
    """The settings that somebody set, and all of them."""
    start = run.starts[-1] if run.starts else None
    rows = [[name, shown(value), source] for name, value, source in sources(start, run.config)]
    columns = ["setting", "value", "from"]
    own = [row for row in rows if row[2] != "default"]
    note = "Filled in: neither in the config nor on the command line, such as what was counted in the data."
    blocks: list[Block] = []
    if start and "command" in start:
        blocks.append(Command(typed(start["command"])))
    if own:
        filled = any(row[2] == "filled in" for row in own)
        blocks.append(
            Table("Settings that are not defaults", columns, own, note if filled else "", prose=True, stacked=True)
        )
    blocks.append(Table("All settings", columns, rows, folded=True, prose=True, stacked=True))
    return Section("settings", "Settings", blocks)


def cost_section(run: Run) -> Section:
    """Time, speed, memory, and the machines and versions of each start."""
    records = sorted((*run.lines, *run.evaluations), key=lambda record: int(record["step"]))
    tiles = cost_tiles(records)
    blocks: list[Block] = [Tiles(tiles)] if tiles else []
    if tiles:
        blocks.append(
            Text("Of the steps in the log; what a killed run did after its last save is not among them.", True)
        )
    for number, start in enumerate(run.starts, 1):
        facts = {"started": moment(start["time"]), "from step": f"{start['step']:,}", "device": start["device"]}
        facts |= {str(name): str(value) for name, value in start["machine"].items() if name != "date"}
        title = "Machine and versions" if len(run.starts) == 1 else f"Start {number} of {len(run.starts)}"
        blocks.append(Facts(title, facts, folded=number < len(run.starts)))
    return Section("cost", "Cost and environment", blocks)


def typed(words: Sequence[str]) -> str:
    """The command of a run as it can be typed again: each option on a line of its own."""
    lines = [["python", "tools/train.py"]]
    for word in words:
        if word.startswith("--"):
            lines.append([word])
        else:
            lines[-1].append(word)
    return " \\\n    ".join(map(shlex.join, lines))


def cost_tiles(records: Sequence[Record]) -> list[Tile]:
    """What the records of a run, in order, say it took; none of a run of an older version."""
    costs = [record["cost"] for record in records if "cost" in record]
    if not costs:
        return []
    # Counted anew from each start on, so that a smaller number begins another part.
    ends = [own for own, after in zip(costs, [*costs[1:], None], strict=True) if after is None or _fell(own, after)]
    tiles = [Tile("time", duration(sum(own["seconds"] for own in ends)), "evaluations and saving included")]
    if all("cpu_seconds" in own for own in ends):
        used = sum(own["cpu_seconds"] for own in ends)
        tiles.append(Tile("processor time", duration(used), "of all cores and loaders"))
    speeds = [float(record["images_per_second"]) for record in records if "images_per_second" in record]
    if speeds:
        tiles.append(Tile("images a second", f"{median(speeds):.1f}", "median of the log, in training"))
    for name, key in (("peak memory", "memory"), ("peak GPU memory", "gpu_memory")):
        if any(key in own for own in costs):
            tiles.append(Tile(name, memory(max(own.get(key, 0) for own in costs))))
    return tiles


def _fell(own: Mapping[str, Any], after: Mapping[str, Any]) -> bool:
    return bool(after["seconds"] < own["seconds"])
