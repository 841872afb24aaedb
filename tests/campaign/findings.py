"""What the campaign finds, and the row of the table that it becomes."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Findings:
    """What must not be: each with a sentence that says which content or answer it was."""

    lost: list[str] = field(default_factory=list)
    """Acknowledged, and not there or not found."""
    wrong: list[str] = field(default_factory=list)
    """Any other answer than the one that follows from what was acknowledged, and any 500."""
    leaked: list[str] = field(default_factory=list)
    """Erased, and still in an answer or a file; or memory, descriptors and threads that are not given back."""
    missed: list[str] = field(default_factory=list)
    """Bounds of time that were not kept, which a machine that others use can cause, too."""

    def add(self, other: Findings) -> None:
        """Take over what another comparison found."""
        self.lost += other.lost
        self.wrong += other.wrong
        self.leaked += other.leaked
        self.missed += other.missed

    def none(self) -> bool:
        """Whether everything was as it must be."""
        return not (self.lost or self.wrong or self.leaked or self.missed)


@dataclass
class Row:
    """One fault or attack."""

    part: str
    fault: str
    cases: int
    findings: Findings
    recovered_s: float | None = None
    """The longest from the end of the fault to the first call that needs all of the service and succeeds."""
    figures: dict[str, float | int | str] = field(default_factory=dict)

    def as_json(self) -> dict[str, object]:
        """For the file beside the table; a finding's sentences are kept, up to ten of each kind."""
        found = {name: getattr(self.findings, name) for name in ("lost", "wrong", "leaked")}
        return {
            "part": self.part,
            "fault": self.fault,
            "cases": self.cases,
            **{name: len(each) for name, each in found.items()},
            "missed": _shortened(self.findings.missed),
            "recovered_s": None if self.recovered_s is None else round(self.recovered_s, 2),
            "figures": self.figures,
            "findings": {name: each[:10] for name, each in found.items() if each},
        }


def _shortened(sentences: list[str]) -> list[str]:
    more = len(sentences) - 3
    return sentences if more <= 0 else [*sentences[:3], f"and {more} more"]
