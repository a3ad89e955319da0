"""The `vigil` command: quick help, one line and exit status 2 for what a user can correct."""

import json
import shutil
import stat
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from tests.support.in_process_server import SICK, WELL
from vigil.pipelines.cli.main import app
from vigil.pipelines.cli.options import OUT
from vigil.pipelines.home import Home
from vigil.pipelines.jobs.train import Trained
from vigil.pipelines.operations.restore import restore
from vigil.serving.auth.local_tokens import LOCAL_AUDIENCE, LOCAL_ISSUER
from vigil.serving.auth.tokens import SCOPES, Caller, TokenVerifier, UnauthorizedError

COMMANDS = [
    *("run", "ingest", "features", "train", "evaluate", "materialize", "predict", "drift", "serve", "token"),
    *("reproduce", "retention", "backup", "restore", "models", "score", "promote", "withdraw", "reinstate", "clock", "wards"),
]


def vigil(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_help_lists_every_command_and_imports_nothing_heavy():
    code = "import sys; from vigil.pipelines.cli.main import app; print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    assert not {"numpy", "pandas", "sklearn", "lightgbm", "mlflow", "feast", "bentoml", "evidently", "matplotlib", "jwt"} & set(
        modules
    )
    shown = vigil("--help").output
    assert all(command in shown for command in COMMANDS)
    assert "│ replay " not in shown  # the former name of reproduce still works, but is hidden
    assert vigil("replay", "--help").exit_code == 0


def test_help_takes_little_longer_than_python_itself():
    def seconds(*command):
        started = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        return time.perf_counter() - started

    script = str(Path(sys.executable).with_name("vigil"))
    ratios = [seconds(script, "--help") / seconds(sys.executable, "-c", "import typing, inspect") for _ in range(5)]
    assert min(ratios) < 12


def test_commands_check_paths_before_the_work(tmp_path):
    (tmp_path / "file").write_text("")
    for arguments, message in (
        (["ingest", "--home", tmp_path / "file"], "a file; expected a folder"),
        (["ingest", "--home", tmp_path / "home", "--json", tmp_path / "no/such.json"], "its folder does not exist"),
    ):
        result = vigil(*arguments)
        assert result.exit_code == 2
        assert message in result.output
    assert not (tmp_path / "home").exists()


def test_unexpected_error_exits_70_and_shows_its_place_but_not_its_message(tmp_path, monkeypatch):
    def fail(*_):
        raise RuntimeError("sim-000017")

    monkeypatch.setattr("vigil.pipelines.jobs.build_features.build", fail)
    result = vigil("features", "--home", tmp_path)
    assert result.exit_code == 70
    assert "unexpected RuntimeError at" in result.output
    assert "sim-000017" not in result.output
    monkeypatch.setenv("VIGIL_DEBUG", "1")
    assert "sim-000017" in vigil("features", "--home", tmp_path).output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "--source", "mimic"], "--source mimic: no such source; choose one of simulated, cinc2019"),
        (["run", "--source", "cinc2019"], "--data is missing: cinc2019 needs the official training_setA.zip"),
        (["run", "--source", "cinc2019", "--data", "/nowhere"], "--data /nowhere: expected the official .zip or a folder"),
        (["run", "--data", "x"], "--data: the simulated ward takes no data"),
        (["features"], "no cohort there; ingest one first: vigil ingest"),
        (["train"], "no cohort there"),
        (["evaluate"], "no cohort there"),
        (["materialize"], "no cohort there"),
        (["predict"], "no cohort there"),
        (["drift"], "no cohort there"),
        (["serve", "--host", "0.0.0.0"], "without TLS the server listens on the loopback interface only"),
        (["serve", "--certificate", "nowhere.pem"], "--certificate, --key: one without the other"),
    ],
)
def test_user_error_is_one_line_and_exit_2(tmp_path, arguments, message):
    result = vigil(*arguments, "--home", tmp_path / "home")
    assert result.exit_code == 2
    assert message in result.output
    assert len(result.output.strip().splitlines()) == 1


def test_evaluate_writes_the_metrics_of_the_version_that_is_named(chain, tmp_path, monkeypatch):
    metrics, asked = chain[0].metrics, []
    monkeypatch.setattr(
        "vigil.pipelines.jobs.evaluate.evaluate",
        lambda home, version, *_, **__: asked.append((home.path, version)) or metrics,
    )
    result = vigil("evaluate", "--home", tmp_path, "--version", "1", "--json", tmp_path / "metrics.json")
    assert result.exit_code == 0, result.output
    assert asked == [(tmp_path, "1")]
    written = json.loads((tmp_path / "metrics.json").read_text())["models"]
    assert {name: one["auroc"] for name, one in written.items()} == {name: one["auroc"] for name, one in metrics.items()}


def test_drift_can_be_repeated_after_a_run(ward_backup, tmp_path):
    restore(ward_backup, Home(tmp_path / "home"))
    result = vigil("drift", "--home", tmp_path / "home", "--json", tmp_path / "drift.json")
    assert result.exit_code == 0, result.output
    assert json.loads((tmp_path / "drift.json").read_text())["status"] == "fine"


def test_train_prints_in_one_line_why_a_first_version_is_not_champion(tmp_path, monkeypatch):
    refused = "version 1 of sepsis is challenger and there is no champion, gate vignettes: " + "found, expected, to do; " * 20
    monkeypatch.setattr(
        "vigil.pipelines.jobs.train.train", lambda *_, **__: Trained("sepsis", "1", "challenger", "run", refused.strip())
    )
    result = vigil("train", "--home", tmp_path, "--json", tmp_path / "trained.json")
    assert result.exit_code == 0, result.output
    assert result.output.splitlines()[-1] == refused.strip()
    assert json.loads((tmp_path / "trained.json").read_text())["refused"] == refused.strip()


def test_evaluate_names_a_version_that_does_not_exist(home):
    result = vigil("evaluate", "--home", home, "--version", "99")
    assert result.exit_code == 2
    assert "no version 99 of model 'deterioration'" in result.output


def caller_of(token, home, *, in_hours=0):
    """Return the caller that a server of that home sees in a token, some hours from now."""
    now = datetime.now(UTC) + timedelta(hours=in_hours)
    jwks = home / "auth/jwks.json"
    return TokenVerifier(issuer=LOCAL_ISSUER, audience=LOCAL_AUDIENCE, jwks=jwks, clock=lambda: now).verify(token)


def test_token_is_the_only_output_and_is_valid_for_its_home(tmp_path):
    home = tmp_path / "home"
    first, second = [vigil("token", "--home", home) for _ in range(2)]
    assert (first.exit_code, first.stderr) == (second.exit_code, second.stderr) == (0, "")
    for token in (first.stdout.removesuffix("\n"), second.stdout.removesuffix("\n")):
        caller = caller_of(token, home)
        assert caller == caller_of(token, home, in_hours=7.9) == Caller("local", frozenset(SCOPES), None, caller.expires_at)
        with pytest.raises(UnauthorizedError, match="expired"):
            caller_of(token, home, in_hours=8.1)
    assert stat.S_IMODE((home / "auth").stat().st_mode) == 0o700


def test_token_takes_scopes_wards_and_subject(tmp_path):
    options = ["--scope", "risk:read", "--scope", "ward:read", "--ward", "icu-1", "--ward", "icu-2", "--subject", "monitor"]
    token = vigil("token", "--home", tmp_path, *options, "--hours", 24).stdout.strip()
    caller = caller_of(token, tmp_path, in_hours=23.9)
    scopes, wards = frozenset({"risk:read", "ward:read"}), frozenset({"icu-1", "icu-2"})
    assert caller == Caller("monitor", scopes, wards, caller.expires_at)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--scope", "risk:read", "--scope", "risk:write"], "scopes risk:write: expected some of observations:write"),
        (["--ward", ""], "subject, wards: expected printable names"),
        (["--subject", ""], "subject, wards: expected printable names"),
    ],
)
def test_token_refuses_claims_that_the_server_would_refuse(tmp_path, options, message):
    result = vigil("token", "--home", tmp_path, *options)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith(f"vigil: {message}")
    assert len(result.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize("hours", [0, 25])
def test_token_refuses_lifetimes_beyond_a_day(tmp_path, hours):
    result = vigil("token", "--home", tmp_path, "--hours", hours)
    assert (result.exit_code, result.stdout) == (2, "")


def test_output_prints_brackets_in_names_unchanged(capsys):
    OUT.print("fault at gateway [/gateway-4] [bold red]ok[/]")
    assert capsys.readouterr().out == "fault at gateway [/gateway-4] [bold red]ok[/]\n"


@pytest.mark.parametrize("name", ["a$b", "a*", "a?b", "[a]", "{a}"])
def test_home_path_with_pattern_characters_is_refused(tmp_path, name):
    result = vigil("ingest", "--home", tmp_path / name)
    assert result.exit_code == 2
    assert "which Feast and DuckDB read as a pattern or a variable; choose another path" in result.output
    assert list(tmp_path.iterdir()) == []


def test_ingest_and_run_replace_the_cohort_of_another_source_only_with_replace(home, tmp_path):
    shutil.copytree(home / "cohort", tmp_path / "cohort")
    shutil.copy(home / "pseudonym.key", tmp_path)
    facts = json.loads((tmp_path / "cohort/cohort.json").read_text())
    (tmp_path / "cohort/cohort.json").write_text(json.dumps(facts | {"source": "cinc2019"}))
    for command in ("ingest", "run"):
        result = vigil(command, "--home", tmp_path)
        assert result.exit_code == 2
        assert "holds the cohort of cinc2019; name another --home, or replace it: --replace" in result.output
    assert json.loads((tmp_path / "cohort/cohort.json").read_text())["source"] == "cinc2019"


def test_unknown_names_are_reported_with_the_nearest_known_name(home):
    for arguments, message in (
        (["train", "--service", "vital_sings_v3"], "--service vital_sings_v3: there is none; did you mean vital_signs_v3?"),
        (["train", "--only", "logstic"], "--only logstic: there is none; did you mean logistic?"),
        (["train", "--set", "num_leafs=8"], "--set num_leafs: there is none; did you mean num_leaves?"),
        (["train", "--set", "num_leaves"], "--set num_leaves: expected NAME=VALUE, such as num_leaves=8"),
        (["models", "--name", "other"], "no model 'other'; train one first"),
        (["withdraw", "--because", "a test", "--version", "99"], "no version 99 of model"),
        (["score", home / "nothing.csv"], "no such file; expected a CSV or Parquet file of readings"),
        (["clock", "--home", home / "cohort"], "no journal.db there; expected a home that vigil serve has made"),
    ):
        result = vigil(*arguments, *([] if "--home" in arguments else ["--home", home]))
        assert result.exit_code == 2, result.output
        assert message in result.output


def test_score_prints_and_writes_risks_of_a_file_and_stores_nothing(home, tmp_path):
    rows = [("sick", s, v) for s, v in SICK.items()] + [("well", s, v) for s, v in WELL.items()] + [("well", "pulse", 70)]
    path = tmp_path / "readings.csv"
    lines = [f"{who},2026-11-28T08:00:00Z,{signal},{value},71,female" for who, signal, value in rows]
    path.write_text("\n".join(["subject_id,observed_at,signal,value,age,sex", *lines]))
    before = sorted((home / "predictions.db").read_bytes())
    result = vigil("score", path, "--home", home, "--to", tmp_path / "risks.csv")
    assert result.exit_code == 1
    assert "1 readings are left out: 1 unknown_signal" in result.output
    risks = pd.read_csv(tmp_path / "risks.csv", index_col="subject_id")
    assert risks.loc["sick", "news2"] == 12 > risks.loc["well", "news2"] == 0
    assert risks.loc["sick", "band"] == "high"
    assert sorted((home / "predictions.db").read_bytes()) == before
    twice = [f"a,2026-11-28T0{hour}:00:00Z,spo2,97,{hour}" for hour in (1, 2)]
    path.write_text("\n".join(("subject_id,observed_at,signal,value,age", *twice)))
    assert "age: differ within a patient" in vigil("score", path, "--home", home).output
    path.write_text("subject_id,signal\n1,2\n")
    assert "lacks observed_at, value; expected a row a reading" in vigil("score", path, "--home", home).output
