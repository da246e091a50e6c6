"""Numbers → figures: what is drawn, in which colour, with which words. How it is drawn stands in `draw.py`.

Families by hue, backbones by marker, regimes by line. The hues are Okabe and Ito's (2008), which stay apart under every
common colour blindness and in grey; each has a lighter twin for dark mode.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import pandas as pd

from bias_lab import catalogue
from bias_lab.statistics import intervals
from bias_lab.statistics import replicates as rep

HUES = {"cnn": "#0072B2", "transformer": "#D55E00", "hybrid": "#00805F", "other": "#9C4F8B"}
HUES_DARK = {"cnn": "#56B4E9", "transformer": "#FF8A4C", "hybrid": "#2CC79B", "other": "#E6A3D3"}
MARKERS = {
    "vit": "circle",
    "resnet": "square",
    "efficientnet": "triangle",
    "mobilenetv3": "diamond",
    "swin": "pentagon",
    "mobilevit": "down",
    "efficientvit": "cross",
}
DASHES = {  # regime → the line's pattern, in pixels of a 1.6 px line
    "scratch": (),
    "mae": (7, 3),
    "simmim": (2, 3),
    "dino": (7, 3, 2, 3),
    "weights": (12, 4),
    "supervised": (12, 3, 2, 3),
    "formula": (4, 4),
}
SCRATCH = "scratch"


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One value with its interval; `low_any, high_any` is the wider one, where there are two. tip: read on hovering."""

    x: float
    y: float
    low: float = math.nan
    high: float = math.nan
    low_any: float = math.nan
    high_any: float = math.nan
    tip: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """A line: hue is a family, marker a shape's name, dash a pattern, bold for what the figure is about."""

    label: str
    points: tuple[Point, ...]
    hue: str
    marker: str = "circle"
    dash: tuple[int, ...] = ()
    bold: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """A figure over the number of labelled images. y in fractions, shown in `unit` (`%` or `points`)."""

    name: str  # of its file
    title: str
    caption: str
    series: tuple[Series, ...]
    ylabel: str
    xlabel: str = "labelled training images (log scale)"
    unit: str = "%"
    zero: bool = False  # a line at 0, and 0 within the axis
    log: bool = True  # whether x is on a log scale


def percent(fraction: float, digits: int = 1) -> str:
    return "–" if math.isnan(fraction) else f"{100 * fraction:.{digits}f}".replace("-", "−")


def span(low: float, high: float) -> str:
    """An interval in points or percent: '70.1 to 73.5', with its infinite ends said in words."""
    if math.isnan(low) or math.isnan(high):
        return "–"
    if math.isinf(low) and math.isinf(high):
        return "unbounded"
    if math.isinf(high):
        return f"above {percent(low)}"
    return f"below {percent(high)}" if math.isinf(low) else f"{percent(low)} to {percent(high)}"


def curve(rows: pd.DataFrame, label: str) -> tuple[Point, ...]:
    """Mean accuracy of a group at each size, with Student's interval over replicates."""
    points = []
    wide = rep.wide(rows)
    for size in wide.columns:
        frame = wide[[size]].set_axis(["top1"], axis=1).dropna()
        if not len(frame):
            continue
        of = intervals.mean(rep.units(frame)["top1"].to_numpy(dtype=float))
        inside = f"95 %: {span(max(of.low, 0.0), min(of.high, 1.0))}, " if of.k > 1 else ""
        tip = f"{label} · N = {int(str(size)):,} · {percent(of.value)} % ({inside}n = {len(frame)})"
        points.append(Point(x=float(str(size)), y=of.value, low=max(of.low, 0.0), high=min(of.high, 1.0), tip=tip))
    return tuple(points)


def accuracy(rows: pd.DataFrame, *, prefix: str = "", of: str = "vit", against: str = "cnn") -> Chart:
    """The main figure: accuracy against labelled training images, CNN against ViT, by regime.

    rows: comparable rows of every regime (`replicates.comparable(scratch=False)`). prefix: of the file's name.
    """
    scratch = rows[(rows["regime"] == SCRATCH) & (rows["protocol"] == "finetune")]
    series = []
    names, ending = shortened(rows["backbone"])
    members = sorted(rep.select(scratch, against)["backbone"].unique())
    if len(members) > 1:
        label = f"{against.upper() if len(against) <= 3 else against} mean of {len(members)}"
        points = curve(rep.select(scratch, against), label)
        series.append(Series(label=label, points=points, hue=against, marker="", bold=True))
    reference = set(rep.select(scratch, of)["backbone"])
    for backbone, part in scratch.groupby("backbone"):
        bold = not reference or backbone in reference or (len(members) == 1 and backbone in members)
        series.append(_line(str(backbone), part, SCRATCH, "finetune", names, bold))
    others = rows[~rows.index.isin(scratch.index)]
    starts = rep.select(others, of)[["regime", "protocol", "source"]].drop_duplicates() if len(others) else others
    few = len(starts) <= 2  # more bands than that hide one another
    for (name, regime, protocol, source), part in others.groupby(["backbone", "regime", "protocol", "source"]):
        line = _line(str(name), part, str(regime), str(protocol), names, not reference or (few and name in reference))
        series.append(replace(line, label=line.label + _from(others, name, regime, source)))
    series = [line for line in series if line.points]
    n = replicate_count(rows, "source")
    caption = (
        f"Mean test accuracy over n = {n} replicates (a draw of the labelled images and a seed each); bands: 95 % "
        "interval of the mean, Student's t. Colour: family. Marker: backbone. Line: where the weights come from."
        + (f" Names without their ending {ending}." if ending else "")
    )
    return Chart(
        name=f"{prefix}accuracy",
        title="Accuracy against labelled training images, CNN against ViT, by regime",
        caption=caption,
        series=tuple(series),
        ylabel="test accuracy, %",
    )


def _line(
    backbone: str, rows: pd.DataFrame, regime: str, protocol: str, names: Mapping[str, str], bold: bool
) -> Series:
    first = rows.iloc[0]
    label = names.get(backbone, backbone) + ("" if regime == SCRATCH else f" + {regime}")
    label += "" if protocol == "finetune" else f" ({protocol.replace('_', ' ')})"
    how = "from scratch" if regime == SCRATCH else f"{regime}, {protocol}"
    return Series(
        label=label,
        points=curve(rows, f"{backbone}, {how}"),
        hue=family(str(first["family"])),
        marker=MARKERS.get(str(first["architecture"]), "star"),
        dash=DASHES.get(regime, (3, 2)),
        bold=bold,
    )


def several(rows: pd.DataFrame, backbone: object, regime: object) -> bool:
    """Whether a backbone has runs of one regime from more than one source, so that the source must be told."""
    return bool(rows.loc[(rows["backbone"] == backbone) & (rows["regime"] == regime), "source"].nunique() > 1)


def _from(rows: pd.DataFrame, backbone: object, regime: object, source: object) -> str:
    """', pool' where a label must tell the source, else ''."""
    return f", {source}" if several(rows, backbone, regime) else ""


def shortened(backbones: Iterable[str]) -> tuple[dict[str, str], str]:
    """Names for labels, and the ending that the lab's names share and that was left out (`_micro`), or ''.

    An own factory goes by its function alone.
    """
    names = sorted(set(backbones))
    listed = [name for name in names if name in catalogue.BACKBONES]
    endings = {name.rsplit("_", 1)[-1] if "_" in name else "" for name in listed}
    ending = f"_{endings.pop()}" if len(listed) > 1 and len(endings) == 1 and "" not in endings else ""
    return {n: n.removesuffix(ending) if n in listed else n.rsplit(":", 1)[-1] for n in names}, ending


def fitted(label: str, room: int) -> str:
    """A label cut to so many letters, what follows its '+' kept: 'deit_tiny_p… + weights'."""
    name, plus, start = label.partition(" + ")
    left = room - 1 - len(plus + start)
    if len(label) <= room:
        return label
    return f"{name[:left]}…{plus}{start}" if plus and left >= 4 else label[: room - 1] + "…"


def family(name: str) -> str:
    return name if name in HUES else "other"


def replicate_count(rows: pd.DataFrame, *further: str) -> str:
    """How many replicates the cells have: '5', or '3 to 5'. further: columns that part cells too."""
    sizes = rows.groupby(["backbone", "regime", "protocol", "size", *further]).size()
    if not len(sizes):
        return "0"
    least, most = int(sizes.min()), int(sizes.max())
    return str(most) if least == most else f"{least} to {most}"


def shortfall(found: Iterable[tuple[str, pd.DataFrame, str]], *, prefix: str = "") -> Chart:
    """Δ(N) with both intervals. found: (regime, table of `gaps`, label) a line."""
    lines = [(table, label, DASHES.get(regime, (3, 2)), regime == SCRATCH) for regime, table, label in found]
    caption = (
        f"Mean accuracy of the CNN family minus plain ViT's, paired over n = {_paired(t for t, *_ in lines)} "
        "replicates. Thick bars: 95 % interval over replicates on this test set. Thin bars: with the sampling of test "
        "images too. Above 0 the CNNs lead. Line: where the ViT's weights come from; the CNNs are always from scratch."
    )
    return Chart(
        name=f"{prefix}shortfall",
        title="The shortfall: how far plain ViT lies below the CNNs",
        caption=caption,
        series=tuple(line for line in (_gap_line(*each) for each in lines) if line.points),
        ylabel="shortfall, points",
        unit="points",
        zero=True,
    )


def _paired(tables: Iterable[pd.DataFrame]) -> str:
    n = {int(k) for table in tables for k in table["n"]}
    return "–".join(str(k) for k in sorted({min(n), max(n)})) if n else "0"


def _gap_line(table: pd.DataFrame, label: str, dash: tuple[int, ...], bold: bool) -> Series:
    points = []
    for row in table.to_dict("records"):
        tip = f"{label} · N = {row['size']:,} · {percent(row['shortfall'])} points ({span(row['low'], row['high'])}"
        wide = span(row["low_any"], row["high_any"])
        tip += f"; with test images {wide}; n = {row['n']})" if wide != "–" else f"; n = {row['n']})"
        ends = {name: row[name] for name in ("low", "high", "low_any", "high_any")}
        points.append(Point(x=float(row["size"]), y=row["shortfall"], tip=tip, **ends))
    return Series(label=label, points=tuple(points), hue="transformer", dash=dash, bold=bold)


# --- images with something taken away, and epochs ---------------------------------------------------------------------

ARM_DASHES = ((), (7, 3), (2, 3), (7, 3, 2, 3), (12, 4), (4, 4))  # an intervention each; the first: none


def by_arm(arms: Mapping[str, pd.DataFrame], *, prefix: str = "") -> Chart:
    """Accuracy of every backbone from scratch under each intervention. arms: words → comparable rows, plain first."""
    names, ending = shortened(name for rows in arms.values() for name in rows["backbone"])
    series = []
    for place, (arm, rows) in enumerate(arms.items()):
        for backbone, part in rows.groupby("backbone"):
            line = _line(str(backbone), part, SCRATCH, "finetune", names, place == 0)
            label = line.label if place == 0 else f"{line.label}, {_brief(arm)}"
            tips = tuple(replace(p, tip=p.tip.replace("from scratch", arm)) for p in line.points)
            series.append(replace(line, label=label, dash=_dash(place), points=tips))
    every = pd.concat(arms.values()) if arms else pd.DataFrame()
    caption = (
        f"Mean test accuracy over n = {replicate_count(every.drop_duplicates('run_id'), 'intervention')} replicates, "
        f"from scratch; bands: 95 % interval of the mean, Student's t. Colour: family. Marker: backbone. "
        f"Line: {_told(arms)}." + (f" Names without their ending {ending}." if ending else "")
    )
    return Chart(
        name=f"{prefix}arms",
        title="Accuracy with something taken away from the images",
        caption=caption,
        series=tuple(line for line in series if line.points),
        ylabel="test accuracy, %",
    )


def shortfall_by_arm(found: Iterable[tuple[str, pd.DataFrame]], *, prefix: str = "") -> Chart:
    """Δ(N) under each intervention. found: (words, rows of `arms`), plain first."""
    lines = list(found)
    caption = (
        f"Mean accuracy of the CNN family minus plain ViT's, paired over n = {_paired(t for _, t in lines)} "
        "replicates, from scratch. Thick bars: 95 % interval over replicates on this test set. Thin bars: with the "
        f"sampling of test images too. Above 0 the CNNs lead. Line: {_told(name for name, _ in lines)}."
    )
    series = [_gap_line(table, _brief(name), _dash(place), place == 0) for place, (name, table) in enumerate(lines)]
    return Chart(
        name=f"{prefix}arms-shortfall",
        title="The CNNs' lead with something taken away from the images",
        caption=caption,
        series=tuple(line for line in series if line.points),
        ylabel="lead of the CNNs, points",
        unit="points",
        zero=True,
    )


def _dash(place: int) -> tuple[int, ...]:
    return ARM_DASHES[place % len(ARM_DASHES)]


def _told(arms: Iterable[str]) -> str:
    """'solid, as they are; dashed, pixels permuted; …'."""
    kinds = ("solid", "dashed", "dotted", "dash-dotted", "long dashes", "short dashes")
    return "; ".join(f"{kinds[place % len(kinds)]}, {arm}" for place, arm in enumerate(arms))


def _brief(arm: str) -> str:
    """'pixels permuted' → 'pixels', for a label beside its line."""
    return arm.split(" of ")[0].removesuffix(" permuted").removesuffix(" shuffled")


def epochs(made: pd.DataFrame, *, size: int, prefix: str = "", tail: str = "") -> Chart:
    """Accuracy on the hold-out over the epochs. made: a row for each backbone, regime, draw, seed and epoch: top1."""
    names, ending = shortened(made["backbone"])
    series = []
    cells = ["backbone", "regime", "protocol", "source"]
    for (backbone, regime, _, source), part in made.groupby(cells):
        label = names.get(str(backbone), str(backbone)) + ("" if regime == SCRATCH else f" + {regime}")
        label += _from(made, backbone, regime, source)
        points = []
        for epoch, at in part.groupby("epoch"):
            of = intervals.mean(rep.units(at.set_index(["draw", "seed"])[["top1"]])["top1"].to_numpy(dtype=float))
            low, high = max(of.low, 0.0), min(of.high, 1.0)
            inside = f"95 %: {span(low, high)}, " if of.k > 1 else ""
            tip = f"{label} · epoch {float(str(epoch)):.0f} · {percent(of.value)} % ({inside}n = {len(at)})"
            points.append(Point(x=float(str(epoch)), y=of.value, low=low, high=high, tip=tip))
        first = part.iloc[0]
        series.append(
            Series(
                label=label, points=tuple(points), hue=family(str(first["family"])), bold=True,
                marker=MARKERS.get(str(first["architecture"]), "star"), dash=DASHES.get(str(regime), (3, 2)),
            )
        )  # fmt: skip
    n = made.groupby(cells)[["draw", "seed"]].apply(lambda p: len(p.drop_duplicates()))
    told = str(n.min()) if n.min() == n.max() else f"{n.min()} to {n.max()}"
    caption = (
        f"Mean accuracy on the hold-out over n = {told} replicates at N = {size:,}; bands: 95 % interval, Student's t. "
        "Colour: family. Marker: backbone. Line: where the weights come from. Nothing is chosen by these curves."
        + (f" Names without their ending {ending}." if ending else "")
    )
    return Chart(
        name=f"{prefix}epochs{tail}",
        title=f"Accuracy on the hold-out over the epochs, N = {size:,}",
        caption=caption,
        series=tuple(series),
        ylabel="accuracy on the hold-out, %",
        xlabel="epochs",
        log=False,
    )
