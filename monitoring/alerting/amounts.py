"""Present: figures with their unit or noun, as people read them."""

from __future__ import annotations


def amount(value: float, unit: str = "") -> str:
    """`812 ms`, `91.5 %`, `14.4 x`, `3`: at most four significant digits, never `1e+06`."""
    number = f"{value:.4g}" if abs(value) < 10_000 else f"{value:,.0f}"
    if "e" in number:
        number = "0" if abs(value) < 1e-9 else f"{value:.6f}".rstrip("0")
    return f"{number} {unit}".strip()


def counted(number: int, noun: str) -> str:
    """`1 token`, `2 tokens`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
