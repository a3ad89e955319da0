"""The table of a search, which ``vigil tune`` prints."""

from pathlib import Path
from typing import Final

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
            "" if name == result.variant else f"{gain:+.1f} ({low:.1f} to {high:.1f})",
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
