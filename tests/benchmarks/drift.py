"""Drift: faults are put into replays and must be named, compared with Evidently's default preset on the same replays."""

import io
import json
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import evidently
import numpy as np
import pandas as pd
from evidently import Dataset, Report
from evidently.presets import DataDriftPreset

from tests.benchmarks.measure import Section
from vigil.features.catalogue import SERVICES
from vigil.features.store.client import Store
from vigil.models.cohort import label_index_times
from vigil.models.monitoring.detectors import Evidence, Finding, detect_faults
from vigil.models.monitoring.faults import FAULTS
from vigil.models.monitoring.feature_drift import compare_columns
from vigil.models.monitoring.received import check_received
from vigil.models.monitoring.reference import sample_patient_days, select_judged_hours, summarise_highest_risks
from vigil.models.monitoring.signal_reference import build_reading_reference, profile_days
from vigil.models.registry import RegisteredModel
from vigil.models.seeds import SEED
from vigil.models.tasks import TASKS
from vigil.models.training.candidate_models import DEFAULT, candidates
from vigil.pipelines.cohort_store import CohortStore
from vigil.pipelines.drift.drill.injection import READING_FAULTS, FaultError, Hit, inject
from vigil.pipelines.drift.drill.replay import BEDS, Replay, build_replay, predict_hourly
from vigil.pipelines.home import Home
from vigil.pipelines.jobs.build_features import build
from vigil.pipelines.jobs.ingest import ingest
from vigil.pipelines.jobs.train import fit, read_labelled_index
from vigil.pipelines.sources import Source
from vigil.pipelines.sources.cinc2019 import Cinc2019
from vigil.pipelines.sources.eicu_demo import EicuDemo
from vigil.pipelines.sources.simulated import SimulatedWard

TRAINED_ON = 20260101
THRESHOLD_SEEDS = "11 to 19"
SEEDS = (401, 402, 403)
STRENGTHS = (0.0, 0.5, 1.0)
PATIENTS = 600
CLEAN_DAYS = 10  # of each ward
OUTCOME_FAULTS = ("prevalence", "concept")  # visible only in outcomes
WEEKS = pd.Timedelta(weeks=3)
DAY = pd.Timedelta(days=1)
STAYS = (1000, 4500, 5500)  # of cinc2019: the number of stays in the reference, and the range of the replayed stays
REAL_DAYS = 2
TEXT = """A fault is put into a replay. It counts as named if it is the only finding, with the right signal and place (gateway,
device, two devices, ward). It begins within the first half hour of the day that is assessed, which begins at any minute.
`prevalence` and `concept` are assessed over three weeks with known outcomes. Strength 0 is hardly visible, 1 is gross (see
`pipelines/drift/drill/faulty_observations.py`). The model and the references are those of a simulated ward of {patients}
patients (seed {trained}). Thresholds were chosen on wards of seeds {threshold}. The wards tested have seeds {seeds}, one day
each, so that a cell holds {number} trials. (Wards of seeds 101 to 303 revealed defects before that, and are not reported.) The
last row holds {clean} days without a fault, and counts those with any finding or any alarm. Evidently {evidently} assesses the
same replays of the first ward with faults at strength 1, where detection is easiest, by its unchanged `DataDriftPreset()`. It
compares the day's prediction log with the training reference, and each patient's median of each signal on that day with days
of training patients. It cannot name a fault. The first number is its own verdict on the data (half of the columns drifted), the
second whether any column drifted. Real patients have neither devices nor gateways in the data. They are placed in {beds} beds
with a monitor each, behind four gateways or their hospital. Challenge 2019 set A: the reference is the first {first} stays, and
the days are those of stays {from_} to {to}. eICU demo: the reference is the first half of the stays, the days are those of the
second half, and hospitals are gateways. It is unknown which faults these days had before. `-` means that the data hold nothing
that the fault could affect. In these columns a cell holds up to {real} trials: three strengths on {real_days} days. A finding
that the same day has without the fault does not count as an answer."""


@dataclass(frozen=True)
class Trained:
    """The stored result of a training run."""

    champion: RegisteredModel
    population: pd.DataFrame
    outcomes: pd.DataFrame
    readings: pd.DataFrame

    def to_evidence(self, rows: pd.DataFrame, until: pd.Timestamp, log: pd.DataFrame | None = None) -> Evidence:
        return Evidence(
            rows, until, self.readings, log, (self.champion.version, self.champion.feature_service),
            self.population, None, self.outcomes,
        )  # fmt: skip


@dataclass
class Tally:
    """The results of one fault: right answers by strength, other answers, and alarms of Evidently."""

    named: dict[float, list[bool]] = field(default_factory=dict)
    other_findings: Counter[str] = field(default_factory=Counter)
    alarms: dict[str, list[tuple[bool, bool]]] = field(default_factory=lambda: {"log": [], "readings": []})

    def count(self, strength: float, hit: Hit, findings: list[Finding]) -> None:
        right = [finding for finding in findings if _is_right(hit, finding)]
        self.named.setdefault(strength, []).append(bool(right) and len(findings) == 1)
        if len(findings) != 1 or not right:
            self.other_findings.update([_describe(hit, finding) for finding in findings] or ["nothing"])


def drift_section(cinc2019: Path | None) -> Section:
    """Measure every fault at several strengths and seeds, and days without a fault."""
    with tempfile.TemporaryDirectory() as folder:
        trained = _train(Path(folder))
    tallies = {name: Tally() for name in FAULTS}
    clean: dict[str, list[Any]] = {"findings": [], "columns": [], "log": [], "readings": []}
    for seed in SEEDS:
        _report(f"ward {seed}")
        replay = build_replay(SimulatedWard(patients=PATIENTS, seed=seed))
        for until in _day_ends(replay, seed, CLEAN_DAYS):
            evidence = _evidence(trained, _around(replay, until), until, logged=True)
            findings = detect_faults(evidence)
            clean["findings"].append(findings)
            clean["columns"].append(_columns_drifted(trained, evidence))
            if seed == SEEDS[0]:
                for data, alarm in _evidently(trained, evidence).items():
                    clean[data].append(alarm)
            _report(f"clean {seed} {until:%m-%d} {[finding.sentence() for finding in findings]}")
        until = _day_ends(replay, seed, 1)[0]
        for name in FAULTS:
            if name not in OUTCOME_FAULTS:
                _count_day_fault(trained, replay, until, name, seed, tallies[name])
        _count_outcome_faults(trained, replay, seed, tallies)
    real = {"cinc2019": _measure_real(*_stays(cinc2019)) if cinc2019 else None}
    eicu = cinc2019.parents[1] / "eicu_demo" if cinc2019 else Path()
    real["eICU demo"] = _measure_real(*_halves(EicuDemo(eicu, "sepsis"))) if eicu.joinpath("hourly.parquet").exists() else None
    return _section(tallies, clean, real)


def _train(home: Path) -> Trained:
    """Train the default model, and compute the references that are stored with it."""
    ingest(SimulatedWard(patients=PATIENTS, seed=TRAINED_ON), Home(home))
    build(Home(home))
    cohort = CohortStore(home)
    task = cohort.task
    frame = Store(home).read_training_frame(read_labelled_index(cohort, "train"), task.feature_service)
    model = candidates(SERVICES[task.feature_service], hourly=True, seed=SEED)[DEFAULT]
    risk = fit(model, frame, task)
    model.metadata_ |= {"task": task.name, "feature_service": task.feature_service}
    days_ = sample_patient_days(frame, model.features, risk, SEED)
    return Trained(
        RegisteredModel(model, task.name, "1", ""),
        days_[days_["in_day"]].reset_index(drop=True),
        summarise_highest_risks(select_judged_hours(frame[["subject_id", "label"]].assign(probability=risk))),
        build_reading_reference(map(cohort.received, range(cohort.count_partitions())), pd.Index(frame["subject_id"].unique())),
    )


def _day_ends(replay: Replay, seed: int, number: int) -> list[pd.Timestamp]:
    """Draw ends of days in the middle of a replay, at any minute."""
    rng = np.random.default_rng(seed + number)
    start, end = replay.stays["start"].min() + 4 * DAY, replay.stays["start"].max() - DAY
    length = int((end - start) / DAY)
    days_ = np.sort(rng.choice(length, min(number, length), replace=False))
    return [start.floor("D") + pd.Timedelta(days=int(day), minutes=int(rng.integers(24 * 60))) for day in days_]


def _around(replay: Replay, until: pd.Timestamp) -> Replay:
    """Return the replay with only the readings of the surrounding days."""
    recorded = replay.readings["recorded_at"]
    near = replay.readings[((recorded > until - 2 * DAY) & (recorded <= until + DAY / 2)).to_numpy()]
    return Replay(near.reset_index(drop=True), replay.stays, replay.outcomes, replay.log)


def _evidence(trained: Trained, replay: Replay, until: pd.Timestamp, *, logged: bool) -> Evidence:
    recorded = replay.readings["recorded_at"]
    rows = check_received(replay.readings[((recorded > until - 2 * DAY) & (recorded <= until)).to_numpy()])
    log = replay.log
    if log is None and logged:
        log = predict_hourly(replay, trained.champion, until - DAY, until)
    return trained.to_evidence(rows, until, log)


def _count_day_fault(trained: Trained, replay: Replay, until: pd.Timestamp, name: str, seed: int, tally: Tally) -> None:
    """Count the answers to a fault of a day at every strength. The log is assessed if the fault is in it, and at strength 1."""
    near = replay if name == "case_mix" else _around(replay, until)
    if name == "version_mismatch":
        near = Replay(near.readings, near.stays, near.outcomes, predict_hourly(near, trained.champion, until - DAY, until))
    since = until - DAY + pd.Timedelta(minutes=seed % 30)
    for strength in STRENGTHS:
        faulty, hit = inject(near, name, since=since, strength=strength, seed=seed)
        if name == "case_mix":
            faulty = _around(faulty, until)
        evidence = _evidence(trained, faulty, until, logged=(strength == 1 and seed == SEEDS[0]) or name == "case_mix")
        findings = detect_faults(evidence)
        tally.count(strength, hit, findings)
        if strength == 1 and seed == SEEDS[0]:
            for data, alarm in _evidently(trained, evidence).items():
                tally.alarms[data].append(alarm)
        _report(f"{seed} {name} {strength:g} {hit.signal} {hit.where} {[(f.fault, f.signal, f.where) for f in findings]}")


def _count_outcome_faults(trained: Trained, replay: Replay, seed: int, tallies: dict[str, Tally]) -> None:
    """Count the answers to faults that are visible in outcomes, over weeks. Readings are not assessed again."""
    since = replay.stays["start"].min() + 14 * DAY
    until = since + WEEKS
    recorded = replay.readings["recorded_at"]
    near = replay.readings[((recorded > since - DAY) & (recorded <= until)).to_numpy()].reset_index(drop=True)
    log = predict_hourly(Replay(near, replay.stays, replay.outcomes), trained.champion, since, until)
    weeks = Replay(near.iloc[:0], replay.stays, replay.outcomes, log)
    for name in OUTCOME_FAULTS:
        for strength in STRENGTHS:
            faulty, hit = inject(weeks, name, since=since, strength=strength, seed=seed)
            findings = _outcomes(trained, faulty, until)
            tallies[name].count(strength, hit, findings)
            _report(f"{seed} {name} {strength:g} {[(f.fault, f.evidence) for f in findings]}")
            if strength == 1 and seed == SEEDS[0] and faulty.log is not None:
                tallies[name].alarms["log"].append(_preset(trained.population, faulty.log, _columns(trained)))
    _report(f"{seed} clean weeks {[f.sentence() for f in _outcomes(trained, weeks, until)]}")


def _outcomes(trained: Trained, replay: Replay, until: pd.Timestamp) -> list[Finding]:
    if replay.log is None:
        return []
    labelled = label_index_times(
        replay.log.merge(replay.stays[["subject_id", "end"]], on="subject_id"), replay.outcomes, TASKS["deterioration"]
    )
    no_readings = check_received(replay.readings)
    return detect_faults(
        Evidence(
            no_readings, until, trained.readings, judged=summarise_highest_risks(labelled), judged_reference=trained.outcomes
        )
    )


def _stays(cinc2019: Path) -> tuple[Replay, Replay]:
    """Return replays of the first stays and of later ones."""
    first, later = Cinc2019(cinc2019), Cinc2019(cinc2019)
    first._files, later._files = first._files[: STAYS[0]], later._files[STAYS[1] : STAYS[2]]
    return build_replay(first), build_replay(later)


def _halves(source: Source) -> tuple[Replay, Replay]:
    """Return replays of the first and the second half of a source's stays."""
    batches = list(source.batches())
    stays = pd.concat([batch.stays for batch in batches])["subject_id"]
    return tuple(build_replay(_Part(source, set(half))) for half in np.array_split(stays.to_numpy(object), 2))  # type: ignore[return-value]


class _Part(Source):
    """A source of some stays of another source."""

    simulated, deidentified = False, True

    def __init__(self, source: Source, subjects: set[str]) -> None:
        self.name, self.task = source.name, source.task
        self._source, self._subjects = source, subjects

    def __len__(self) -> int:
        return len(self._source)

    def batches(self) -> Iterator[Any]:
        for batch in self._source.batches():
            tables = (batch.observations, batch.stays, batch.outcomes)
            yield type(batch)(*(table[table["subject_id"].isin(self._subjects)].reset_index(drop=True) for table in tables))


def _measure_real(first: Replay, later: Replay) -> tuple[dict[str, list[bool]], list[list[Finding]], Counter[str]]:
    """Measure faults of readings in days of real patients, and the same days without a fault."""
    reference = profile_days(check_received(first.readings))
    reference["signal"] = reference["signal"].astype(str)
    named: dict[str, list[bool]] = {name: [] for name in READING_FAULTS}
    other_findings: Counter[str] = Counter()
    clean = []
    for number, until in enumerate(_day_ends(later, 7, CLEAN_DAYS)):
        near = _around(later, until)
        findings = detect_faults(Evidence(_rows(near, until), until, reference))
        clean.append(findings)
        _report(f"real {until:%m-%d} {[finding.sentence() for finding in findings]}")
        since = until - DAY + pd.Timedelta(minutes=5)
        for name in READING_FAULTS if number < REAL_DAYS else ():
            for strength in STRENGTHS:
                try:
                    faulty, hit = inject(near, name, since=since, strength=strength, seed=number)
                except FaultError as error:
                    _report(str(error))
                    continue
                answers = detect_faults(Evidence(_rows(faulty, until), until, reference))
                # A finding of the day without the fault is not an answer to the fault.
                answers = [
                    finding for finding in answers if (finding.fault, finding.signal, finding.where) not in _keys(findings)
                ]
                right = len(answers) == 1 and _is_right(hit, answers[0])
                named[name].append(right)
                if not right:
                    other_findings.update(f"{name}: {_describe(hit, finding)}" for finding in answers)
                    _report(
                        f"real {name} {strength:g} {hit.signal} {hit.where} {[(f.fault, f.signal, f.where) for f in answers]}"
                    )
    return named, clean, other_findings


def _keys(findings: list[Finding]) -> set[tuple[str, str | None, tuple[str, ...]]]:
    return {(finding.fault, finding.signal, finding.where) for finding in findings}


def _rows(replay: Replay, until: pd.Timestamp) -> pd.DataFrame:
    recorded = replay.readings["recorded_at"]
    return check_received(replay.readings[((recorded > until - 2 * DAY) & (recorded <= until)).to_numpy()])


def _is_right(hit: Hit, finding: Finding) -> bool:
    return (finding.fault, finding.signal, finding.where) == (hit.fault, hit.signal, hit.where)


def _describe(hit: Hit, finding: Finding) -> str:
    if _is_right(hit, finding):
        return "the fault and others"
    return finding.fault if finding.fault != hit.fault else f"{finding.fault} at another place"


def _columns(trained: Trained) -> list[str]:
    return [*trained.champion.model.features, "probability"]


def _evidently(trained: Trained, evidence: Evidence) -> dict[str, tuple[bool, bool]]:
    """Return Evidently's verdicts on the log, and on the patients' daily medians of each signal."""
    usual, today = _daily(trained.readings, "window"), _daily(evidence.now, "window")
    verdicts = {"readings": _preset(usual, today, [str(signal) for signal in usual if signal in today])}
    if evidence.log is not None:
        verdicts["log"] = _preset(trained.population, evidence.log, _columns(trained))
    return verdicts


def _columns_drifted(trained: Trained, evidence: Evidence) -> int:
    """Return the number of columns that ``vigil drift`` reports as drifted."""
    assert evidence.log is not None
    log = evidence.log.assign(hour=evidence.log["index_time"].dt.hour)
    return int(compare_columns(trained.population, log, _columns(trained))["drifted"].sum())


def _daily(series: pd.DataFrame, window: str) -> pd.DataFrame:
    wide = series.pivot_table(index=["subject_id", window], columns="signal", values="level", aggfunc="median", observed=True)
    wide.columns = wide.columns.astype(str)
    return wide.reset_index(drop=True)


def _preset(reference: pd.DataFrame, current: pd.DataFrame, columns: list[str]) -> tuple[bool, bool]:
    """Return whether half of the columns drifted, and whether any did."""
    known = [column for column in columns if reference[column].notna().any() and current[column].notna().any()]
    with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        run = Report([DataDriftPreset()]).run(Dataset.from_pandas(current[known]), Dataset.from_pandas(reference[known]))
        result = json.loads(run.json())
    drifted = next(metric["value"] for metric in result["metrics"] if "DriftedColumnsCount" in metric["metric_name"])
    return drifted["share"] >= 0.5, drifted["count"] >= 1


def _section(tallies: dict[str, Tally], clean: dict[str, list[Any]], real: dict[str, Any]) -> Section:
    text = TEXT.format(
        patients=PATIENTS, trained=TRAINED_ON, threshold=THRESHOLD_SEEDS, seeds=", ".join(map(str, SEEDS)), number=len(SEEDS),
        clean=len(clean["findings"]), evidently=evidently.__version__, beds=BEDS, first=STAYS[0], from_=STAYS[1], to=STAYS[2],
        real=REAL_DAYS * len(STRENGTHS), real_days=REAL_DAYS,
    )  # fmt: skip
    rows = []
    for name, tally in tallies.items():
        rows.append(
            [
                f"`{name}`",
                *(_share(tally.named.get(strength, [])) for strength in STRENGTHS),
                ", ".join(f"{what} {count}" for what, count in tally.other_findings.most_common()) or "-",
                *(_alarms(tally.alarms[data]) for data in ("log", "readings")),
                *(_share(result[0].get(name, [])) if result else "-" for result in real.values()),
            ]
        )
    all_named = [right for tally in tallies.values() for trials in tally.named.values() for right in trials]
    always = sum(all(all(trials) for trials in tally.named.values()) for tally in tallies.values())
    gross = [right for tally in tallies.values() for right in tally.named.get(1.0, [])]
    text += (
        f"\n\nVigil named the fault {sum(all_named)} of {len(all_named)} times, at strength 1 {sum(gross)} of {len(gross)}, "
        f"and {always} of the {len(tallies)} faults every time. `vigil drift` reported a drifted column on "
        f"{sum(map(bool, clean['columns']))} of {len(clean['columns'])} days without a fault."
    )
    days_with_findings = sum(bool(day) for day in clean["findings"])
    rows.append(
        [
            "no fault", "", "", f"{days_with_findings} of {len(clean['findings'])}",
            ", ".join(sorted({finding.fault for day in clean["findings"] for finding in day})) or "-",
            *(_alarms(clean[data]) for data in ("log", "readings")),
            *(f"{sum(bool(day) for day in result[1])} of {len(result[1])}" if result else "-" for result in real.values()),
        ]
    )  # fmt: skip
    head = ["fault", "strength 0", "0.5", "1", "other findings", "Evidently, log", "Evidently, readings", *real]
    return Section("Drift: faults named by Vigil", text, head, rows)


def _share(trials: list[bool]) -> str:
    return f"{sum(trials)}/{len(trials)}" if trials else "-"


def _alarms(alarms: list[tuple[bool, bool]]) -> str:
    return f"{sum(half for half, _ in alarms)}, {sum(any_ for _, any_ in alarms)} of {len(alarms)}" if alarms else "-"


def _report(line: str) -> None:
    sys.stderr.write(f"{line}\n")
