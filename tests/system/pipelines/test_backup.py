"""Backup and restoration: a home is backed up while its server runs, restored at another path, and gives the same answers."""

import hashlib
import json
import shutil
import sqlite3
import stat
import threading
import time
from contextlib import closing
from datetime import timedelta

import httpx
import pandas as pd
import pytest
from typer.testing import CliRunner

from vigil.features.pseudonyms import open_pseudonyms
from vigil.features.store.client import Store
from vigil.models.registry import Registry
from vigil.pipelines.cli.main import app
from vigil.pipelines.cohort_store import CohortStore
from vigil.pipelines.home import Home
from vigil.pipelines.operations.backup import BACKUP_KEY, MANIFEST, BackupError, backup
from vigil.pipelines.operations.reproduce import reproduce
from vigil.pipelines.operations.restore import restore, verify_backup
from vigil.pipelines.operations.server import running_server
from vigil.serving.auth.local_tokens import create_local_token
from vigil.serving.identity.identities import Identities

LIVE = ("MRN 1", "MRN 2", "MRN 3")
USUAL = {"heart_rate": 88, "respiratory_rate": 19, "spo2": 94, "systolic_bp": 118}


class Gateway:
    """Sends readings to a server, one request after another, and notes when each request was acknowledged."""

    def __init__(self, url, home):
        token = create_local_token(home, subject="gateway", scopes=None, wards=None, lifetime=timedelta(hours=1))
        self.client = httpx.Client(base_url=url, headers={"Authorization": f"Bearer {token}"}, timeout=30)
        self.acknowledged = []
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stopped.set()
        self._thread.join()

    def _run(self):
        number = 0
        while not self._stopped.is_set():
            number += 1
            time.sleep(0.05)
            self.send(number)

    def send(self, number):
        at = pd.Timestamp.now("UTC").isoformat()
        readings = [
            {
                "message_id": f"{number}/{patient}/{signal}",
                "patient_id": patient,
                "signal": signal,
                "value": value + number % 7,
                "observed_at": at,
            }
            for patient in LIVE
            for signal, value in USUAL.items()
        ]
        answer = self.client.post("/v1/observations", json={"observations": readings}).raise_for_status().json()
        assert answer["accepted"] == len(readings)
        self.acknowledged.append((pd.Timestamp.now("UTC"), len(readings)))

    def risks(self, patients, **request):
        items = (
            self.client.post("/v1/risks", json={"patient_ids": list(patients), **request}).raise_for_status().json()["items"]
        )
        return {item["patient_id"]: item["risk"] for item in items}


def count(home, file, table, where="1"):
    with closing(sqlite3.connect(home / file)) as connection:
        return connection.execute(f"SELECT COUNT(*) FROM {table} WHERE {where}").fetchone()[0]


@pytest.fixture(scope="module")
def moved(ward_backup, tmp_path_factory):
    """A home restored from a backup of a running server: (home, its former risks, their time, readings acknowledged before)."""
    folder = tmp_path_factory.mktemp("backup")
    first, second = folder / "first", folder / "another folder" / "second"
    restore(ward_backup, Home(first))
    cohort = CohortStore(first).read("stays")["subject_id"].head(20)
    patients = list(Identities(first).find(cohort).values())
    with running_server(Home(first), "deterioration") as url:
        gateway = Gateway(url, first)
        registration = {"ward": "B4", "age": 70, "sex": "male"}
        gateway.client.post("/v1/patients", json={"patients": [{"patient_id": LIVE[0], **registration}]}).raise_for_status()
        gateway.send(0)
        time.sleep(1)
        as_of = pd.Timestamp.now("UTC").isoformat()
        with gateway:
            time.sleep(2)
            began = pd.Timestamp.now("UTC")
            backup(Home(first), folder / "backup")
            time.sleep(1)
            assert count(first, "journal.db", "observations") > count(folder / "backup", "journal.db", "observations")
        risks = gateway.risks(patients) | gateway.risks(LIVE, as_of=as_of)
    acknowledged = sum(number for at, number in gateway.acknowledged if at <= began)
    shutil.rmtree(first)  # so that no path into it works any more
    restore(folder / "backup", Home(second))
    return second, risks, as_of, acknowledged


def test_server_of_a_restored_home_gives_the_same_risks(moved):
    home, risks, as_of, _ = moved
    with running_server(Home(home), "deterioration") as url:
        gateway = Gateway(url, home)
        patients = [patient for patient in risks if patient not in LIVE]
        again = gateway.risks(patients) | gateway.risks(LIVE, as_of=as_of)
        gateway.send(10_000)
    assert sum(risk["probability"] is not None for risk in risks.values()) > 15
    for patient, risk in risks.items():
        for name in ("probability", "band", "news2", "as_of", "index_time", "basis", "model"):
            assert again[patient][name] == risk[name]
    assert all(again[patient]["probability"] for patient in LIVE)


def test_backup_holds_every_acknowledged_reading_and_its_identity(moved):
    home, _, _, acknowledged = moved
    assert acknowledged > 3 * len(LIVE) * len(USUAL)
    assert count(home, "journal.db", "observations") >= acknowledged
    with closing(sqlite3.connect(home / "journal.db")) as connection:
        subjects = [subject for (subject,) in connection.execute("SELECT DISTINCT subject_id FROM series")]
    assert set(Identities(home).find(subjects).values()) == set(LIVE)
    assert set(subjects) == {open_pseudonyms(home).subject_key(patient) for patient in LIVE}


def test_backup_journal_holds_the_groups_that_the_ward_state_was_computed_from(moved):
    home, *_ = moved
    with closing(sqlite3.connect(home / "ward_state.db")) as connection:
        (read_until,) = connection.execute("SELECT at FROM progress WHERE name = 'journal'").fetchone()
        names = [name for (name,) in connection.execute("SELECT prediction_id FROM risks")]
    with closing(sqlite3.connect(home / "journal.db")) as connection:
        assert connection.execute("SELECT recorded_at FROM group_time").fetchone()[0] >= read_until
    assert len(names) == len(LIVE)
    hexes = tuple(name.replace("-", "").upper() for name in names)
    assert count(home, "predictions.db", "predictions", f"hex(prediction_id) IN {hexes}") == len(names)


def test_restored_home_reproduces_every_prediction(moved):
    home, *_ = moved
    result = reproduce(home, 10_000)
    assert result.different == {}
    assert result.origins["rescorer"]["reproduced"] > 3 * len(LIVE)
    assert set().union(*result.origins.values()) == {"reproduced"}


def test_restored_home_holds_no_former_path_of_feast_or_mlflow(moved):
    home, *_ = moved
    registry, store = Registry.open_existing(home), Store(home)
    champion = registry.load("deterioration")
    assert registry.load_table(champion.run_id, "reference.parquet").shape[0] > 0
    index = pd.read_parquet(home / "replay_clock.parquet").head(30)
    offline = store.read_training_frame(index, champion.feature_service)
    online = store.online(offline["subject_id"].tolist(), champion.feature_service)
    pd.testing.assert_frame_equal(online[champion.model.features], offline[champion.model.features], check_exact=True)
    assert online["index_time"].tolist() == offline["index_time"].tolist()
    former = str(home.parents[1] / "first").encode()
    assert not [path for path in home.rglob("*") if path.is_file() and former in path.read_bytes() and "log" not in path.name]


def test_backup_and_restored_home_are_readable_by_their_owner_only(ward_backup, tmp_path):
    restore(ward_backup, Home(tmp_path / "home"))
    for folder in (ward_backup, tmp_path / "home"):
        modes = {path.is_dir(): stat.S_IMODE(path.stat().st_mode) for path in (folder, *folder.rglob("*"))}
        assert modes == {True: 0o700, False: 0o600}


def test_manifest_lists_the_files_of_the_backup(ward_backup, home):
    manifest = json.loads((ward_backup / MANIFEST).read_text())
    assert manifest["home"] == str(home.resolve())
    files = {str(path.relative_to(ward_backup)) for path in ward_backup.rglob("*") if path.is_file()}
    assert set(manifest["files"]) == files - {MANIFEST, "manifest.hmac"}
    assert {"pseudonym.key", "identities.db", "mlflow.db", "feast/online.db", "auth/token_key.pem"} <= files
    assert not [name for name in files if name.startswith(("logs", "bentoml", "reports"))]


@pytest.fixture
def copied(ward_backup, tmp_path):
    """A copy of a backup, for tests that change it."""
    return shutil.copytree(ward_backup, tmp_path / "copied")


def test_restore_refuses_a_changed_byte(copied, tmp_path):
    path = copied / "predictions.db"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    result = CliRunner().invoke(app, ["restore", "--from", str(copied), "--trust", "--home", str(tmp_path / "home")])
    assert result.exit_code == 2
    assert f"{path}: has changed since the backup was taken" in result.output
    assert not (tmp_path / "home").exists()


def test_verify_backup_names_a_missing_file(copied):
    (copied / "pseudonym.key").unlink()
    with pytest.raises(BackupError, match="pseudonym.key: missing; expected 64 bytes"):
        verify_backup(copied)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "missing; expected the folder of a complete backup"),
        ("{", "not a manifest of this version"),
        ('{"vigil": "1", "taken_at": "", "home": "/x", "files": {"../x": {"sha256": "", "size": 0}}}', "outside of the backup"),
        (
            '{"vigil": "1", "taken_at": "", "home": "/x", "files": {"/etc/x": {"sha256": "", "size": 0}}}',
            "outside of the backup",
        ),
    ],
)
def test_verify_backup_refuses_an_unusable_manifest(copied, text, message):
    (copied / MANIFEST).unlink() if text is None else (copied / MANIFEST).write_text(text)
    with pytest.raises(BackupError, match=message):
        verify_backup(copied)


def test_backup_and_restore_overwrite_nothing(copied, home, tmp_path):
    for arguments in (
        ["backup", "--home", str(home), "--to", str(copied)],
        ["restore", "--from", str(copied), "--trust", "--home", str(home)],
    ):
        result = CliRunner().invoke(app, arguments)
        assert result.exit_code == 2
        assert "expected a new or an empty folder; name another one" in result.output
    (tmp_path / "home.unfinished").mkdir()
    with pytest.raises(BackupError, match="left by a restoration that was interrupted; .* remove it first"):
        restore(copied, Home(tmp_path / "home"))
    with pytest.raises(BackupError, match="nothing to back up"):
        backup(Home(tmp_path / "nowhere"), tmp_path / "to")
    assert not (tmp_path / "to").exists()


def test_backup_and_restore_commands_print_what_they_did(home, tmp_path):
    result = CliRunner().invoke(app, ["backup", "--home", str(home), "--to", str(tmp_path / "to")])
    assert result.exit_code == 0
    assert "files," in result.output
    key = home / BACKUP_KEY
    assert f"need {key}, which is not in it" in result.output.replace("\n", " ")
    assert not (tmp_path / "to" / BACKUP_KEY).exists()
    arguments = ["restore", "--from", str(tmp_path / "to"), "--home", str(tmp_path / "home")]
    for options in ([], ["--key", str(key), "--trust"]):
        refused = CliRunner().invoke(app, arguments + options)
        assert refused.exit_code == 2
        assert "--key, --trust: expected one of the two" in refused.output
    result = CliRunner().invoke(app, [*arguments, "--key", str(key)])
    assert result.exit_code == 0
    assert "next: vigil serve --home" in result.output


def update_checksums(folder):
    """Make the checksums fit changed files, as an attacker could; without the key the signature cannot be made to fit."""
    manifest = json.loads((folder / MANIFEST).read_text())
    for name in manifest["files"]:
        content = (folder / name).read_bytes()
        manifest["files"][name] = {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content)}
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1))


def test_backup_changed_with_its_checksums_fails_the_signature(copied, home, tmp_path):
    changed = tmp_path / "changed"
    shutil.copytree(copied, changed)
    verify_backup(changed, home / BACKUP_KEY)
    model = next(changed.rglob("MLmodel"))
    model.write_text(model.read_text() + "\n# changed\n")
    update_checksums(changed)
    assert verify_backup(changed).files  # on trust
    with pytest.raises(BackupError, match="not signed with"):
        restore(changed, Home(tmp_path / "home"), home / BACKUP_KEY)
    (changed / "manifest.hmac").unlink()
    with pytest.raises(BackupError, match="not signed with"):
        verify_backup(changed, home / BACKUP_KEY)
    with pytest.raises(BackupError, match="not the key of a home"):
        verify_backup(copied, model)
    other = tmp_path / BACKUP_KEY
    other.write_text("ab" * 32)
    with pytest.raises(BackupError, match="not signed with"):
        verify_backup(copied, other)


def test_restore_refuses_a_link_out_of_the_backup(copied, tmp_path):
    linked = tmp_path / "linked"
    shutil.copytree(copied, linked)
    path = linked / "wards.toml"
    path.unlink(missing_ok=True)
    path.symlink_to("/etc/hostname")
    manifest = json.loads((linked / MANIFEST).read_text())
    manifest["files"]["wards.toml"] = {"sha256": "", "size": 0}
    (linked / MANIFEST).write_text(json.dumps(manifest))
    update_checksums(linked)
    with pytest.raises(BackupError, match=r"wards\.toml: leads out of the backup"):
        restore(linked, Home(tmp_path / "home"))
    assert not (tmp_path / "home").exists()
