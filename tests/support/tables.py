"""The simulated ward as a hospital's own tables: wide, in Fahrenheit, with local times and decimal commas."""

import pandas as pd

from vigil.pipelines.sources.simulated import SimulatedWard

COLUMNS = {
    "HF": "heart_rate",
    "AF": "respiratory_rate",
    "SpO2 (%)": "spo2",
    "RR sys": "systolic_bp",
    "RR dia": "diastolic_bp",
    "Temp (F)": "body_temperature",
}
MAPPING = """
name = "station-b4"
task = "deterioration"
deidentified = true

[default]
delimiter = ";"
encoding = "cp1252"
decimal_comma = true
time_zone = "Europe/Berlin"
time_format = "%d.%m.%Y %H:%M:%S"
units = { spo2 = "%", systolic_bp = "mm[Hg]", diastolic_bp = "mm[Hg]", body_temperature = "[degF]" }

[[observations]]
file = "cohort.csv"
stay = "Fall"
time = "Zeit"
signals = { heart_rate = "HF", respiratory_rate = "AF", spo2 = "SpO2 (%)", systolic_bp = "RR sys", diastolic_bp = "RR dia",
            body_temperature = "Temp (F)" }

[stays]
file = "cohort.csv"
stay = "Fall"
patient = "Patient"
start = "Aufnahme"
age = "Alter"
sex = "Geschlecht"
sex_codes = { female = ["w"], male = ["m"] }
ward = "Station"

[outcomes]
file = "cohort.csv"
stay = "Fall"
onset = "Verlegung ITS"
""".replace(",\n            ", ", ")


def write_german_cohort(folder, patients, **ward):
    """Write ``cohort.csv`` of a simulated ward and its mapping, and return (path of the mapping, the batch it was made of)."""
    (batch,) = SimulatedWard(patients=patients, patients_per_batch=patients, **ward).batches()
    rows = batch.observations[batch.observations["signal"].isin(list(COLUMNS.values()))]
    rows = rows.drop_duplicates(["subject_id", "signal", "observed_at"])
    wide = rows.pivot_table(index=["subject_id", "observed_at"], columns="signal", values="value", observed=True).reset_index()
    stays = batch.stays.merge(batch.outcomes[["subject_id", "onset"]], on="subject_id", how="left")
    wide = wide.merge(stays, on="subject_id")
    sexes = wide["sex"].map({0.0: "w", 1.0: "m"})
    table = pd.DataFrame(
        {
            "Patient": wide["subject_id"].str.partition("~")[0],
            "Fall": "F-" + wide["subject_id"].str.replace("~", "-"),
            "Zeit": _local(wide["observed_at"]),
            **{name: _number(wide[signal]) for name, signal in COLUMNS.items() if name != "Temp (F)"},
            "Temp (F)": _number((wide["body_temperature"] * 9 / 5 + 32).round(1)),
            "Alter": _number(wide["age"].round()),
            "Geschlecht": sexes,
            "Station": wide["unit"],
            "Aufnahme": _local(wide["start"]),
            "Verlegung ITS": _local(wide["onset"]),
        }
    )
    folder.mkdir(exist_ok=True)
    table.to_csv(folder / "cohort.csv", sep=";", index=False, encoding="cp1252", lineterminator="\r\n")
    (folder / "cohort.toml").write_text(MAPPING, encoding="utf-8")
    return folder / "cohort.toml", batch


def _local(times):
    return times.dt.tz_convert("Europe/Berlin").dt.strftime("%d.%m.%Y %H:%M:%S")


def _number(values):
    return values.map(lambda value: "" if pd.isna(value) else f"{value:g}".replace(".", ","))
