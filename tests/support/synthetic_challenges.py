"""Small synthetic sets in the formats of the challenges, with an outcome that the readings predict."""

import numpy as np

from vigil.pipelines.sources.cinc2019 import HEADER


def write_cinc2019(folder, number_of_stays, seed):
    """Write .psv files. In one stay of three the heart rate rises before the label becomes positive."""
    folder.mkdir()
    generator = np.random.default_rng(seed)
    for number in range(number_of_stays):
        hours = int(generator.integers(14, 30))
        first = int(generator.integers(8, hours)) if number % 3 == 0 else hours + 1
        lines = ["|".join(HEADER)]
        for hour in range(1, hours + 1):
            rising = max(0, hour - first + 7) * 6
            row = {
                "HR": round(80 + 6 * generator.normal() + rising, 1), "Resp": round(16 + generator.normal() + rising / 6, 1),
                "SBP": round(120 + 5 * generator.normal() - rising / 3, 1), "Age": 60, "Gender": number % 2,
                "Unit1": 0, "Unit2": 1, "HospAdmTime": -3, "ICULOS": hour, "SepsisLabel": int(hour >= first),
            }  # fmt: skip
            if hour % 6 == 1:
                row["Lactate"] = round(1.2 + generator.random() + rising / 20, 1)
            lines.append("|".join(str(row.get(column, "NaN")) for column in HEADER))
        (folder / f"p{seed:02}{number:04}.psv").write_text("\n".join(lines) + "\n")
    return folder


def write_cinc2012(folder, number_of_stays, seed):
    """Write a folder set-x and its Outcomes-x.txt.

    Patients who die have a low Glasgow Coma Scale and a high urea. One stay has no observation.
    """
    folder.mkdir()
    generator = np.random.default_rng(seed)
    outcomes = ["RecordID,SAPS-I,SOFA,Length_of_stay,Survival,In-hospital_death"]
    for number in range(number_of_stays):
        record, dies = 130000 + seed * 1000 + number, int(number % 4 == 0)
        lines = [
            "Time,Parameter,Value", f"00:00,RecordID,{record}", "00:00,Age,70", "00:00,Gender,1", "00:00,Height,-1",
            f"00:00,ICUType,{1 + number % 4}", "00:00,Weight,80",
        ]  # fmt: skip
        for hour in range(1, 48, 4) if number != 1 else ():
            lines.append(f"{hour:02}:05,GCS,{int(np.clip(14 - 5 * dies + generator.normal(), 3, 15))}")
            lines.append(f"{hour:02}:05,HR,{85 + 10 * dies + 8 * generator.normal():.0f}")
            lines.append(f"{hour:02}:05,SysABP,{120 - 10 * dies + 8 * generator.normal():.0f}")
        if number != 1:
            lines.append(f"06:10,BUN,{20 + 25 * dies + 6 * generator.random():.0f}")
        (folder / f"{record}.txt").write_text("\n".join(lines) + "\n")
        outcomes.append(f"{record},{12 + 4 * dies},{5 + dies},9,{6 if dies else -1},{dies}")
    (folder.parent / f"Outcomes-{folder.name.removeprefix('set-')}.txt").write_text("\n".join(outcomes) + "\n")
    return folder
