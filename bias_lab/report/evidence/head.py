"""Fill the first screen of one dataset: the headline or the banner in its place, further sentences, three tiles."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pandas as pd

from bias_lab import schema, statistics
from bias_lab.catalogue import FAMILIES
from bias_lab.report.evidence import chosen, parts
from bias_lab.report.evidence import headline as words
from bias_lab.report.figures.chart import percent, span
from bias_lab.report.pages import Head, Tile
from bias_lab.report.sentences import GIVEN, WIDEST, is_identical, name_of, start_words, trained
from bias_lab.statistics import AtSize, Gap, Headline
from bias_lab.statistics.settled.headline import BLOCKING

OF, AGAINST, FAMILY = "vit", "resnet", "cnn"
PATH = "smoke"  # the profile whose runs only show that everything works
PATH_ALONE = "Nothing is claimed: the runs of this profile show that everything works."
NO_ANSWER = "this profile shows the path alone"
FEW = 3  # further sizes that are all named. Of more, the largest and those that say something else
SINGLE = "single runs"  # the profile of `bias-lab train`


def numbers(view: pd.DataFrame) -> Headline:
    """Return the numbers of the headline of one view of `findings.split`."""
    return statistics.headline(view, of=OF, against=against(view), family=FAMILY)


def of_view(
    view: pd.DataFrame,
    about: str,
    profile: str,
    tuned: Iterable[Mapping[str, Any]] = (),
    found: Headline | None = None,
) -> Head:
    """Return the head of one view of `findings.split`.

    profile: of the plan. tuned: rows of its tuning table. found: `numbers` of the view, where they are known already.
    """
    found = numbers(view) if found is None else found
    if profile == SINGLE or (not found.sizes and profile != PATH):
        return Head(about=about)  # its runs were not made to answer the question
    shown = tiles(view, found)
    if profile == PATH:
        blank = tuple(replace(tile, value="–", note=NO_ANSWER) for tile in shown)
        return Head(about=about, banner=words.SMOKE, tiles=blank)
    sizes = [at.size for at in found.sizes]
    if not found.open_sizes:
        problems = problems_of(view, found.sizes) or {"no run": {name_of(OF): sizes, name_of(FAMILY): sizes}}
        return Head(about=about, banner=(*words.banner(problems, sizes), *locality(found.sizes)), tiles=shown)
    first = leading(found)
    others = [at for at in found.open_sizes if at is not first]
    how = chosen.how(view, OF, first, tuned)
    support = [
        words.under_each("recipe", first.by_recipe),
        words.at_equal_images(OF, first, chosen.of_equal(view, OF, first)),
        words.on_pixels(first),
        words.under_each("optimizer", first.by_optimizer, first.optimizer_recipes),
    ]
    several = draws(view, first) > 1
    for at in others:
        if len(others) <= FEW or at is others[-1] or side(at) != side(first):
            unlike = chosen.how(view, OF, at, tuned)
            one_draw = several and draws(view, at) == 1
            support.append(words.further(OF, at, how="" if unlike == how else unlike, one_draw=one_draw))
    left_out = problems_of(view, [at for at in found.sizes if not at.is_open])
    support += [words.elsewhere(kind, cells, sizes) for kind, cells in left_out.items()]
    sentence = words.headline(OF, first, how)
    told = [sentence, *filter(None, support)]
    if any("CI " in text for text in told):
        told.append(words.explained(first, draws(view, first)))
    return Head(about=about, headline=sentence, support=tuple(told[1:]), banner=locality(found.sizes), tiles=shown)


def leading(found: Headline) -> AtSize:
    """Return the size of the first sentence: the smallest one that a headline may speak of.

    A size at which pixels alone do about as well as the CNNs comes after all others, since it says little of locality.
    Where some sizes have the shortfall under more recipes than others, these come first: of them alone is known what
    the hold-out prefers.
    """

    def order(at: AtSize) -> tuple[bool, int, int]:
        return "control_as_good" in at.flags, -sum(gap.n > 0 for gap in at.by_recipe.values()), at.size

    return min(found.open_sizes or found.sizes, key=order)


def locality(sizes: Iterable[AtSize]) -> tuple[str, ...]:
    """Return the warnings of the sizes at which pixels alone do about as well as the CNNs."""
    return tuple(filter(None, map(words.locality, sizes)))


def side(at: AtSize) -> int:
    """Return 1 where plain ViT is shown to be behind, −1 where ahead, 0 where nothing is shown."""
    return words.side_of(at.settled) if words.is_claimed(at.settled) else 0


def draws(view: pd.DataFrame, at: AtSize) -> int:
    """Return how many draws of training images the settled cells of a size have."""
    rows = statistics.comparable(view, comparison="settled")
    return int(rows.loc[rows["size"] == at.size, "draw"].nunique())


def group(found: Headline) -> str:
    """Return the group that settled cells are compared with at every size: the family, or else one CNN alone."""
    named = {at.against for at in found.sizes if "absent" not in at.flags}
    return FAMILY if named <= {FAMILY} else found.against


def against(view: pd.DataFrame) -> str:
    """Return the architecture that plain ViT is compared with: ResNet, or the first other CNN where it has no runs."""
    there = set(view["architecture"])
    cnns = [name for name, family in FAMILIES.items() if family == FAMILY and name in there]
    return AGAINST if AGAINST in there or not cnns else cnns[0]


def problems_of(view: pd.DataFrame, sizes: Sequence[AtSize]) -> dict[str, dict[str, list[int]]]:
    """Return what forbids a headline at these sizes: a key of `headline.REASONS` → backbone or group → sizes."""
    problems: dict[str, dict[str, list[int]]] = {}
    for at in sizes:
        for flag, names in at.flags.items():
            if flag not in BLOCKING or (flag == "no_interval" and "absent" in at.flags):
                continue
            for name in names:
                there = flag != "absent" or len(statistics.select(view, name)) > 0
                kind = flag if flag != "absent" else "none settled" if there else "no run"
                problems.setdefault(kind, {}).setdefault(name_of(name), []).append(at.size)
    return {kind: problems[kind] for kind in words.REASONS if kind in problems}


def tiles(view: pd.DataFrame, found: Headline) -> tuple[Tile, ...]:
    """Return the shortfall of settled cells, that at equal images, and what recovers most of it."""
    if not found.sizes:
        return ()
    first = leading(found)
    settled = Tile("Shortfall, settled", "–", "no settled cells that a headline could speak of")
    if first.is_open:
        settled = Tile("Shortfall, settled", _points(first.settled), _where(first.settled, first))
    equal = Tile("Shortfall at equal images", "–", f"no pair of runs at equal images and {first.size:,} labels")
    if first.equal.n and first.equal_flags:
        equal = Tile("Shortfall at equal images", "–", f"nothing is claimed: {words.flagged(first)}")
    elif first.equal.n:
        under = chosen.of_equal(view, OF, first).rstrip(",")
        equal = Tile("Shortfall at equal images", _points(first.equal), _where(first.equal, first, under))
    return settled, equal, recovers_most(view)


def _points(gap: Gap) -> str:
    return f"{percent(gap.value)} points"


def _where(gap: Gap, at: AtSize, under: str = "") -> str:
    """Return 'against ResNet, at 100 labels (95 % CI 4.8 to 22.1)'. under: goes before the bracket."""
    low = gap.best_low
    inside = "one replicate, no interval" if low != low else f"95 % CI {span(low, gap.best_high)}"
    inside = "identical replicates, no interval" if is_identical(low, gap.best_high) else inside
    return f"against {name_of(at.against)}, at {at.size:,} labels{under} ({inside})"


def recovers_most(view: pd.DataFrame) -> Tile:
    """Return the start that recovers most of the shortfall at the smallest size where a share is determined.

    The shortfall is that at equal images, where runs are compared so.
    """
    label = "Largest share recovered"
    known = trained(statistics.recovery(view))
    known = known[known["recovery"].notna() & (known["low"] > 0) & (known["high"] - known["low"] <= WIDEST)]
    known = known[~is_unsound(view, known)]
    if not len(known):
        return Tile(label, "–", "no start is shown to recover a share of it")
    first = known[known["size"] == known["size"].min()].sort_values("recovery", ascending=False).iloc[0]
    start = start_words(first["regime"], first["protocol"], first["source"])
    share = f"95 % CI {percent(first['low'], 0)} to {percent(first['high'], 0)} %"
    share = "identical replicates" if is_identical(first["low"], first["high"]) else share
    share += f", {GIVEN}" if first.get("shared") else ""
    where = ", ".join(filter(None, (start, parts.held(view), f"at {int(first['size']):,} labels")))
    return Tile(label, f"{percent(first['recovery'], 0)} %", f"{where} ({share})")


def is_unsound(view: pd.DataFrame, starts: pd.DataFrame) -> "pd.Series[bool]":
    """Return which rows of `statistics.recovery` lie at a size that allows no claim, or have a start that collapsed."""
    broken = view[view["collapsed"].fillna(False).astype(bool)] if "collapsed" in view else view.iloc[:0]
    key = [*schema.START, "size"]
    cells = set(broken[key].itertuples(index=False, name=None))
    is_broken = [cell in cells for cell in starts[key].itertuples(index=False, name=None)]
    return starts["size"].isin(list(statistics.unsound(view))) | pd.Series(is_broken, index=starts.index, dtype=bool)
