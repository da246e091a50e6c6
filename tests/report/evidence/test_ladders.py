"""The ladders of the tuning table, rung by rung."""

from bias_lab.report.evidence import ladders


def row(dataset: str, *, settled: bool) -> dict[str, object]:
    trials = [dict(learning_rate=0.001, samples_seen=16_000 * 2**k, top1=0.5 + 0.04 * k, n=3) for k in range(3)]
    cell = dict(dataset=dataset, backbone="vit_micro", recipe="plain", regime="scratch", size=100)
    return cell | dict(learning_rate=0.001, samples_seen=64_000, settled=settled, trials=trials)


def test_rungs_have_images_accuracy_and_gain() -> None:
    section = ladders.section([row("mnist", settled=True), row("cifar10", settled=True)], "mnist")
    (table,) = section.tables
    assert [[cell.text for cell in line][5:] for line in table.rows] == [
        ["16,000", "50.0", "–", "3", ""], ["32,000", "54.0", "4.0", "3", ""], ["64,000", "58.0", "4.0", "3", "settled"],
    ]  # fmt: skip
    assert len(section.text) == 1
    assert section.folded


def test_a_ladder_that_has_not_ended_is_said() -> None:
    section = ladders.section([row("mnist", settled=False)], "mnist")
    assert section.text[1] == "1 of 1 ladders have not ended, so their cells are not settled."
    assert section.tables[0].rows[-1][-1].text == "best so far, not settled"


def test_a_ladder_above_99_percent_says_that_it_may_end_there() -> None:
    full = row("mnist", settled=True)
    full["trials"] = [*full["trials"], dict(learning_rate=0.001, samples_seen=128_000, top1=0.992, n=3)]  # type: ignore[misc]
    told = "Above 99 % no doubling can gain as much, so a ladder may end there too."
    assert told in ladders.section([full], "mnist").tables[0].note
    assert told not in ladders.section([row("mnist", settled=True)], "mnist").tables[0].note


def test_without_a_budget_search_there_is_no_section() -> None:
    old = {key: value for key, value in row("mnist", settled=True).items() if key != "samples_seen"}
    assert not ladders.section([old], "mnist")


def test_cells_that_differ_in_more_than_their_recipe_are_told_apart() -> None:
    rows = [row("mnist", settled=True), row("mnist", settled=True) | {"intervention": "permute_pixels"}]
    section = ladders.section(rows, "mnist", "own-")
    (table,), (chart,) = section.tables, section.charts
    at = [name for name, _ in table.columns].index("intervention")
    assert [line[at].text for line in table.rows] == ["images as they are"] * 3 + ["pixels permuted"] * 3
    assert chart.name == "own-ladders"
    assert len(chart.series) == 2
