"""Values with their units, as people read them."""

from __future__ import annotations


def seconds(value: float) -> str:
    """A time with three significant digits: `412 µs`, `4.21 ms`, `1.30 s`, `2 min 5 s`."""
    if value >= 60:
        return f"{int(value // 60):,} min {int(value % 60)} s"
    for unit, scale in (("s", 1.0), ("ms", 1e3), ("µs", 1e6)):
        if value * scale >= 0.9995:
            return f"{digits(value * scale)} {unit}"
    return f"{value * 1e9:.0f} ns" if value else "0 s"


def size(value: int) -> str:
    """Bytes with three significant digits: `612 MiB`, `1.21 GiB`."""
    scaled, unit = float(value), "B"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if scaled < 999.5:
            break
        scaled, unit = scaled / 1024, larger
    return f"{value} B" if unit == "B" else f"{digits(scaled)} {unit}"


def share(value: float) -> str:
    """A share in percent, never rounded to none or to all: `<1%`, `62%`, `>99%`, `130%`."""
    if 0 < value < 0.01:
        return "<1%"
    return ">99%" if 0.99 < value < 1 else f"{value:.0%}"


def cycles(value: float) -> str:
    """Cycles with three significant digits: `1.18 G`, `20.7 M`, `512`."""
    for unit, scale in (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= 0.9995 * scale:
            return f"{digits(value / scale)} {unit}"
    return f"{value:.0f}"


def joules(value: float) -> str:
    """Energy with three significant digits: `90.0 J`, `400 mJ`."""
    for unit, scale in (("kJ", 1e3), ("J", 1.0), ("mJ", 1e-3)):
        if value >= 0.9995 * scale:
            return f"{digits(value / scale)} {unit}"
    return f"{digits(value * 1e6)} µJ" if value else "0 J"


def plural(count: int, noun: str) -> str:
    """`1 span`, `2,000 spans`."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def digits(value: float) -> str:
    """Three significant digits, without an exponent."""
    for limit, decimals in ((9.995, 2), (99.95, 1)):
        if value < limit:
            return f"{value:.{decimals}f}"
    return f"{value:.0f}"


def rate(value: float) -> str:
    """A number with three significant digits, or without decimals from 1,000 on."""
    if 0 < value < 0.01:
        return "<0.01"
    return f"{value:,.0f}" if value >= 999.5 else digits(value)


def printable(text: str) -> str:
    """Without control characters: a name from a file must not steer the terminal."""
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)
