"""How an amount of money is said, and what is known of the cost of several things. Pure."""

from __future__ import annotations

from dataclasses import dataclass

UNKNOWN = "?"


def dollars(usd: float | None) -> str:
    """`$0.0042`, `$1.20`, `$12,345`; `?` for what is not known."""
    if usd is None:
        return UNKNOWN
    if usd == 0:
        return "$0"
    if usd < 0.01:
        return f"${usd:.4f}" if usd >= 0.0001 else "<$0.0001"
    return f"${usd:,.2f}" if usd < 1000 else f"${usd:,.0f}"


@dataclass(frozen=True, slots=True)
class Spend:
    """The cost of attempts that ran."""

    usd: float = 0.0
    """Of those whose cost is known."""
    known: int = 0
    """How many these are."""
    unknown: int = 0
    """How many others there are."""

    def __add__(self, other: Spend) -> Spend:
        return Spend(self.usd + other.usd, self.known + other.known, self.unknown + other.unknown)

    def and_one(self, usd: float | None) -> Spend:
        """With one more attempt, of this cost."""
        return self + (Spend(0.0, 0, 1) if usd is None else Spend(usd, 1, 0))

    def __str__(self) -> str:
        """`$1.20`, `≥ $1.20` where a part is not known, `?`, `–` where nothing ran."""
        if not self.known:
            return UNKNOWN if self.unknown else "–"
        return f"≥ {dollars(self.usd)}" if self.unknown else dollars(self.usd)


NOTHING = Spend()
