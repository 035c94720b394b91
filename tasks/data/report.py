"""What a reader found in a split: what is in it, what was mended and what was left out."""

from dataclasses import dataclass, field

SHOWN = 3  # examples kept of each finding


@dataclass(slots=True)
class Finding:
    """Something that happened `count` times, with the first few places."""

    count: int = 0
    examples: list[str] = field(default_factory=list)


@dataclass(slots=True)
class ReadReport:
    """Counts of one split.

    Attributes:
        source: file or folder that was read.
        images: images kept.
        boxes: boxes kept, crowd regions included.
        crowd: crowd regions among them.
        without_boxes: images that have no box.
        content: what the images bring where it is not boxes: "2 classes (normal 12, pneumonia 12)"; None: boxes.
        dropped: what was left out, by reason.
        mended: what was changed to be usable, by what was done.
        notes: what else a person should know.
    """

    source: str
    images: int = 0
    boxes: int = 0
    crowd: int = 0
    without_boxes: int = 0
    content: str | None = None
    dropped: dict[str, Finding] = field(default_factory=dict)
    mended: dict[str, Finding] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def drop(self, reason: str, example: str) -> None:
        """Record that something was left out."""
        _note(self.dropped, reason, example)

    def mend(self, what: str, example: str) -> None:
        """Record that something was changed."""
        _note(self.mended, what, example)

    def __str__(self) -> str:
        """One line for people."""
        line = f"{self.source}: {self.images} images, {self.content or self._boxes()}"
        for verb, findings in (("dropped", self.dropped), ("mended", self.mended)):
            for reason, finding in findings.items():
                more = ", ..." if finding.count > len(finding.examples) else ""
                line += f"; {verb} {finding.count} {reason} ({', '.join(finding.examples)}{more})"
        return "; ".join([line, *self.notes])

    def _boxes(self) -> str:
        extra = [f"{self.crowd} crowd"] * (self.crowd > 0)
        extra += [f"{self.without_boxes} images without"] * (self.without_boxes > 0)
        return f"{self.boxes} boxes" + (f" ({', '.join(extra)})" if extra else "")


def _note(findings: dict[str, Finding], reason: str, example: str) -> None:
    finding = findings.setdefault(reason, Finding())
    finding.count += 1
    if len(finding.examples) < SHOWN:
        finding.examples.append(example)
