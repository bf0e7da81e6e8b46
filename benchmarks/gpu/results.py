"""What a run has measured so far: for people, and for programs."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

from rich.console import Console

from benchmarks.gpu import report
from benchmarks.gpu.measure import Seen, Shot
from benchmarks.report import cpu_tables


@dataclass
class Results:
    """Filled as the run goes, so that a run that fails leaves what it had to programs."""

    facts: Mapping[str, object] = field(default_factory=dict)
    best: dict[int, str] = field(default_factory=dict)
    """Bare Triton's best setting by callers."""
    tried: list[tuple[int, str, float]] = field(default_factory=list)
    seen: list[Seen] = field(default_factory=list)
    shots: dict[str, list[Shot]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def show(self, console: Console) -> None:
        """Prints everything."""
        flops = float(str(self.facts.get("flops_per_row", 0)))
        for note in (*self.notes, *(f"bare Triton at {count} callers: {best}" for count, best in self.best.items())):
            console.print(note)
        if not self.seen:
            return
        console.print(report.closed_table(self.seen, flops))
        for title, shots in self.shots.items():
            console.print(report.arrivals_table(title, shots))
        for table in cpu_tables([one.row for one in self.seen]):
            console.print(table)
        verdicts = report.judge(self.seen, next(iter(self.shots.values()))) if self.shots else ()
        for verdict in verdicts:
            console.print(str(verdict))

    def document(self) -> Mapping[str, object]:
        """For programs."""
        return {
            "facts": self.facts,
            "best": {str(count): best for count, best in self.best.items()},
            "tried": self.tried,
            "seen": [asdict(one) for one in self.seen],
            "shots": {title: [asdict(one) for one in some] for title, some in self.shots.items()},
            "notes": self.notes,
        }
