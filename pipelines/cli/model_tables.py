"""Tables of versions and their variants, and of a search."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from vigil.models.formatting import format_number
from vigil.models.search.searchers import FLAML
from vigil.pipelines.jobs.tune import FOUND, REPORT, Tuning

_LEGEND: Final = (
    "*: the default. loss: log loss in nats, the lower the better; gain: thousandths by which it is lower than the default's, "
    "with 95 % interval by patient. folds: log loss on the patients searched, where what was chosen looks better than it is. "
    "All else: on patients set aside from the search."
)


def tuning_table(result: Tuning, reports: Path) -> RenderableType:
    """Show models in rows, the best on unseen patients first, and what was found below."""
    sides = {name: f"{own['patients']:,} patients ({own['events']:,} events)" for name, own in result.patients.items()}
    table = Table(
        title=f"Searched: {sides['searched']}. Set aside: {sides['set_aside']}.",
        title_justify="left",
        caption=_LEGEND,
        caption_justify="left",
        padding=(0, 0, 0, 1),
    )
    table.add_column("model", no_wrap=True)
    for column in ("folds", "loss", "gain (95 % CI)", "AUPRC (95 % CI)", "AUROC"):
        table.add_column(column, justify="right", no_wrap=True)
    for name, own in result.leaderboard.iterrows():
        gain, low, high = (1000 * own[f"gain_log_loss{side}"] for side in ("", "_low", "_high"))
        table.add_row(
            f"{name}*" if name == result.variant else str(name),
            format_number(own["folds_log_loss"], 4),
            format_number(own["log_loss"], 4),
            "" if name == result.variant else f"{gain:+.1f} ({low:.0f} to {high:.0f})",
            f"{own['auprc']:.3f} ({own['auprc_low']:.2f}-{own['auprc_high']:.2f})",
            format_number(own["auroc"], 3),
        )
    return Group(table, *map(Text, _notes(result, reports)))


def _notes(result: Tuning, reports: Path) -> list[str]:
    lines = [
        f"{name}: {own['complete']:,.0f} trials complete, {own['pruned']:,.0f} pruned, {own['minutes']:.1f} minutes in all"
        for name, own in result.trials.items()
    ]
    if FLAML in result.trials and FLAML not in result.leaderboard.index:
        lines.append(f"{FLAML} completed no trial; give it more minutes")
    if result.is_default:
        lines.append("No settings were better than the defaults on the folds.")
    else:
        own = result.leaderboard.loc[FOUND]
        verdict = {
            (True, True): "better than the defaults on patients it had not seen",
            (False, False): "worse than the defaults on patients it had not seen: keep the defaults",
        }.get(
            (bool(own["gain_log_loss_low"] > 0), bool(own["gain_log_loss_high"] > 0)),
            "not told apart from the defaults on patients it had not seen: the interval holds 0",
        )
        found = ", ".join(f"{name} {value:.3g}" for name, value in result.parameters.items())
        lines += [
            f"{FOUND}: {found}",
            f"It is {verdict}.",
            f"To train it as a version: vigil train --params {reports / REPORT}",
        ]
    if result.simulated:
        lines.append("Simulated ward: these figures show that the search works. They are no clinical evidence.")
    return lines


def versions_table(versions: Sequence[Mapping[str, Any]]) -> RenderableType:
    """Show versions of a model, newest first, with their figures on held-out patients; blank if not evaluated."""
    table = Table(
        padding=(0, 0, 0, 1),
        caption="alarms: per patient-day. For runs, times and reasons: --json FILE.",
        caption_justify="left",
    )
    for heading in ("version", "alias", "trained", "AUROC (95 % CI)", "slope", "alarms", "recall"):
        table.add_column(heading, justify="left" if heading in {"alias", "trained"} else "right", no_wrap=True)
    notes: list[Text] = []
    for version in versions:
        figures = version["metrics"]
        auroc = "{auroc:.3f} ({auroc_low:.2f}-{auroc_high:.2f})".format(**figures) if "auroc_low" in figures else ""
        others = (figures.get(name) for name in ("calibration_slope", "alarms_per_patient_day", "event_recall"))
        cells = [auroc, *("" if value is None else f"{value:.2f}" for value in others)]
        table.add_row(str(version["version"]), version["alias"], version["trained_at"][:10], *cells)
        reasons = {state: version[state] for state in ("withdrawn", "refused_by", "ungated") if version[state]}
        notes += [Text(f"version {version['version']}: {state.replace('_', ' ')}: {why}") for state, why in reasons.items()]
    return Group(table, *notes)


def variants_table(variants: Sequence[Mapping[str, Any]]) -> RenderableType:
    """Show variants and baselines of all versions, the best first, with their figures on held-out patients."""
    if not variants:
        return Text("No version is evaluated; evaluate one first: vigil evaluate")
    table = Table(
        padding=(0, 0, 0, 1),
        caption="*: the variant that is the version. alarms: per patient-day. Held-out patients; each version by its last "
        "evaluation. A line parts figures of other held-out rows, which do not compare.",
        caption_justify="left",
    )
    for heading in ("version", "variant", "AUPRC (95 % CI)", "AUROC (95 % CI)", "slope", "alarms"):
        table.add_column(heading, justify="left" if heading == "variant" else "right", no_wrap=True)
    for one, following in zip(variants, [*variants[1:], None], strict=True):
        figures = one["metrics"]
        table.add_row(
            f"{one['version']} {one['alias']}".strip(),
            f"{one['variant']}*" if one["is_registered"] else one["variant"],
            *(_with_interval(figures, name) for name in ("auprc", "auroc")),
            *(
                "" if figures.get(name) is None else f"{figures[name]:.2f}"
                for name in ("calibration_slope", "alarms_per_patient_day")
            ),
            end_section=following is not None and following["held_out"] != one["held_out"],
        )
    return table


def _with_interval(figures: Mapping[str, Any], name: str) -> str:
    low, high = figures[f"{name}_low"], figures[f"{name}_high"]
    return f"{figures[name]:.3f}" + ("" if low is None else f" ({low:.2f}-{high:.2f})")
