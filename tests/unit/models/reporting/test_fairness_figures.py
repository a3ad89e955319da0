"""Figures, sentences and table about fairness: the worst group first, numbers of patients, and no conclusion from few."""

import pytest

from vigil.models.reporting.fairness_figures import (
    draw_fairness,
    draw_group_calibration,
    summarise_fairness,
    tabulate_fairness,
)

SHARES = ("selection_rate", "true_positive_rate", "false_positive_rate", "precision")


def group(name, recall, by="insurance", *, patients=100, events=40, enough=True, reference=False, gap=(None,) * 3):
    row = {"by": by, "group": name, "patients": patients, "events": events, "enough": enough, "reference": reference}
    for metric in (*SHARES, "auroc"):
        row |= {metric: recall, f"{metric}_low": recall - 0.1, f"{metric}_high": recall + 0.1}
        for kind in ("difference", "ratio"):
            row |= dict(zip((f"{metric}_{kind}{end}" for end in ("", "_low", "_high")), gap, strict=True))
    return row


NONE = dict.fromkeys(f"{metric}{end}" for metric in SHARES for end in ("", "_low", "_high"))
GROUPS = [
    group("public", 0.5, gap=(-0.2, -0.3, -0.1)),
    group("private", 0.7, patients=1300, reference=True),
    group("none", 0.4, events=15, enough=False),
    group("other", 0.4, patients=None, events=None, enough=False) | NONE,
]


def result(groups):
    return {"once": False, "fairness": {"groups": groups}}


def test_sentence_names_the_worst_group_its_numbers_and_the_gap():
    (sentence,) = summarise_fairness(result(GROUPS))
    assert sentence == (
        "Insurance: of the patient-hours before an event the fewest are flagged in the group public (100 patients, 40 with an "
        "event): 50 % (40-60); in private (1,300 patients, 40 with an event) 70 % (60-80). The difference is -20 (-30 to -10) "
        "percentage points from private to public. Too few patients to conclude anything of: none, other."
    )


def test_a_gap_that_includes_none_may_be_chance():
    near = [group("public", 0.68, gap=(-0.02, -0.1, 0.06)), *GROUPS[1:2]]
    (sentence,) = summarise_fairness(result(near))
    assert "percentage points from private to public, may be chance." in sentence


def test_nothing_is_concluded_where_fewer_than_two_groups_are_large_enough():
    (sentence,) = summarise_fairness(
        result([group("male", 0.7, "sex", reference=True), group("female", 0.2, "sex", enough=False)])
    )
    assert sentence == (
        "Sex: fewer than two groups are large enough, so nothing can be compared. "
        "Too few patients to conclude anything of: female."
    )


def test_figure_marks_small_groups_and_hides_none():
    figure = draw_fairness(GROUPS)
    axes = figure.axes[0]
    labels = [text.get_text() for text in axes.get_yticklabels()][::-1]
    assert labels == [
        "Insurance",
        "public: 100 / 40",
        "private: 1,300 / 40",
        "none: 100 / 15, too few",
        "other: under 11 / under 11, too few",
    ]
    faces = [line.get_markerfacecolor() for line in axes.lines if line.get_marker() == "o"]
    assert faces == ["#0072B2", "#0072B2", "white"]  # of the last nothing is drawn
    assert len(figure.axes) == len(SHARES)


def test_calibration_has_a_panel_for_each_group_on_the_same_axes():
    points = [
        {
            "by": "sex",
            "group": name,
            "predicted": 0.1 * step,
            "observed": share * step,
            "observed_low": 0.0,
            "observed_high": 0.9,
        }
        for name, share in (("female", 0.1), ("male", 0.2))
        for step in range(1, 6)
    ]
    sizes = [group("female", 0.5, "sex"), group("male", 0.5, "sex")]
    figure = draw_group_calibration(points, sizes)
    shown = [axes for axes in figure.axes if axes.axison]
    titles = [axes.get_title(loc=where) for axes in shown for where in ("left", "center") if axes.get_title(loc=where)]
    assert titles == ["Sex: female\n100 patients, 40 with an event", "Sex: male\n100 patients, 40 with an event"]
    assert shown[0].get_ylim() == shown[1].get_ylim()


def test_table_holds_differences_and_no_conclusion_from_few():
    table = tabulate_fairness(GROUPS)
    assert table.rows[0][:5] == ["insurance: public", "100", "40", "-0.200 (-0.300 to -0.100)", "-0.20 (-0.30 to -0.10)"]
    assert table.rows[1][3:] == ["the largest group, with which the others are compared"]
    assert table.rows[3] == ["insurance: other", "under 11", "under 11", "too few to conclude"]
    assert {len(row) for row in table.rows} <= {4, len(table.headings)}
    assert not set(SHARES) & set(table.headings)


@pytest.mark.parametrize("once", [True, False])
def test_sentence_speaks_of_stays_or_hours(once):
    (sentence,) = summarise_fairness(result(GROUPS) | {"once": once})
    assert ("of the stays before" in sentence) == once
