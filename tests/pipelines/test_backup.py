"""Backup and restoration: a home whose server never stopped comes back elsewhere, whole, and says what it said."""

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

from features.pseudonyms import open_pseudonyms
from features.store.client import Store
from models.registry import Registry
from pipelines.cli.main import app
from pipelines.cohort_store import CohortStore
from pipelines.operations.backup import BACKUP_KEY, MANIFEST, BackupError, backup, restore, verify
from pipelines.operations.reproduce import replay
from pipelines.operations.server import running_server
from serving.auth.local_tokens import local_token
from serving.identity.identities import Identities

LIVE = ("MRN 1", "MRN 2", "MRN 3")
USUAL = {"heart_rate": 88, "respiratory_rate": 19, "spo2": 94, "systolic_bp": 118}


class Gateway:
    """Sends readings to a server, one request after another, and remembers which were acknowledged, and when."""

    def __init__(self, url, home):
        token = local_token(home, subject="gateway", scopes=None, wards=None, lifetime=timedelta(hours=1))
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
    """(the home restored, what its first server said, the patients asked for, readings acknowledged before the backup)."""
    folder = tmp_path_factory.mktemp("backup")
    first, second = folder / "first", folder / "another place" / "second"
    restore(ward_backup, first)
    cohort = CohortStore(first).read("stays")["subject_id"].head(20)
    patients = list(Identities(first).of(cohort).values())
    with running_server(first, "deterioration") as url:
        gateway = Gateway(url, first)
        registration = {"ward": "B4", "age": 70, "sex": "male"}
        gateway.client.post("/v1/patients", json={"patients": [{"patient_id": LIVE[0], **registration}]}).raise_for_status()
        gateway.send(0)
        time.sleep(1)
        as_of = pd.Timestamp.now("UTC").isoformat()
        with gateway:
            time.sleep(2)
            began = pd.Timestamp.now("UTC")
            backup(first, folder / "kept")
            time.sleep(1)
            assert count(first, "journal.db", "readings") > count(folder / "kept", "journal.db", "readings")
        said = gateway.risks(patients) | gateway.risks(LIVE, as_of=as_of)
    acknowledged = sum(number for at, number in gateway.acknowledged if at <= began)
    shutil.rmtree(first)  # whatever still leads there leads nowhere
    restore(folder / "kept", second)
    return second, said, as_of, acknowledged


def test_a_server_starts_there_and_says_what_was_said(moved):
    home, said, as_of, _ = moved
    with running_server(home, "deterioration") as url:
        gateway = Gateway(url, home)
        patients = [patient for patient in said if patient not in LIVE]
        again = gateway.risks(patients) | gateway.risks(LIVE, as_of=as_of)
        gateway.send(10_000)
    assert sum(risk["probability"] is not None for risk in said.values()) > 15
    for patient, risk in said.items():
        for name in ("probability", "band", "news2", "as_of", "index_time", "basis", "model"):
            assert again[patient][name] == risk[name]
    assert all(again[patient]["probability"] for patient in LIVE)


def test_every_reading_acknowledged_before_is_there_and_whose_it_is(moved):
    home, _, _, acknowledged = moved
    assert acknowledged > 3 * len(LIVE) * len(USUAL)
    assert count(home, "journal.db", "readings") >= acknowledged
    with closing(sqlite3.connect(home / "journal.db")) as connection:
        of = [patient for (patient,) in connection.execute("SELECT DISTINCT patient FROM readings")]
    assert set(Identities(home).of(of).values()) == set(LIVE)
    assert set(of) == {open_pseudonyms(home).of(patient) for patient in LIVE}


def test_what_is_on_the_board_was_made_of_groups_that_are_in_the_journal(moved):
    home, *_ = moved
    with closing(sqlite3.connect(home / "board.db")) as connection:
        (read_until,) = connection.execute("SELECT at FROM progress WHERE name = 'journal'").fetchone()
        names = [name for (name,) in connection.execute("SELECT prediction_id FROM risks")]
    with closing(sqlite3.connect(home / "journal.db")) as connection:
        assert connection.execute("SELECT recorded_at FROM time").fetchone()[0] >= read_until
    assert len(names) == len(LIVE)
    assert count(home, "predictions.db", "predictions", f"prediction_id IN {tuple(names)}") == len(names)


def test_everything_that_was_predicted_is_made_again_there(moved):
    home, *_ = moved
    found = replay(home, 10_000)
    assert found.different == {}
    assert found.origins["rescorer"]["reproduced"] > 3 * len(LIVE)
    assert set().union(*found.origins.values()) == {"reproduced"}


def test_feast_and_mlflow_find_their_files_there(moved):
    home, *_ = moved
    registry, store = Registry.existing(home), Store(home)
    champion = registry.load("deterioration")
    assert registry.table(champion.run_id, "reference.parquet").shape[0] > 0
    index = pd.read_parquet(home / "replay_clock.parquet").head(30)
    offline = store.training_frame(index, champion.feature_service)
    online = store.online(offline["subject_id"].tolist(), champion.feature_service)
    pd.testing.assert_frame_equal(online[champion.model.features], offline[champion.model.features], check_exact=True)
    assert online["index_time"].tolist() == offline["index_time"].tolist()
    old = str(home.parents[1] / "first").encode()
    assert not [path for path in home.rglob("*") if path.is_file() and old in path.read_bytes() and "log" not in path.name]


def test_only_its_owner_can_read_a_backup(ward_backup, tmp_path):
    restore(ward_backup, tmp_path / "home")
    for folder in (ward_backup, tmp_path / "home"):
        modes = {path.is_dir(): stat.S_IMODE(path.stat().st_mode) for path in (folder, *folder.rglob("*"))}
        assert modes == {True: 0o700, False: 0o600}


def test_the_manifest_says_what_there_is(ward_backup, home):
    manifest = json.loads((ward_backup / MANIFEST).read_text())
    assert manifest["home"] == str(home.resolve())
    there = {str(path.relative_to(ward_backup)) for path in ward_backup.rglob("*") if path.is_file()}
    assert set(manifest["files"]) == there - {MANIFEST, "manifest.hmac"}
    assert {"pseudonym.key", "identities.db", "mlflow.db", "feast/online.db", "auth/token_key.pem"} <= there
    assert not [name for name in there if name.startswith(("logs", "bentoml", "reports"))]


@pytest.fixture
def kept(ward_backup, tmp_path):
    return shutil.copytree(ward_backup, tmp_path / "kept")


def test_a_changed_byte_is_refused(kept, tmp_path):
    path = kept / "predictions.db"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    result = CliRunner().invoke(app, ["restore", "--from", str(kept), "--trust", "--home", str(tmp_path / "home")])
    assert result.exit_code == 2
    assert f"{path}: has changed since the backup was taken" in result.output
    assert not (tmp_path / "home").exists()


def test_a_missing_file_is_named(kept):
    (kept / "pseudonym.key").unlink()
    with pytest.raises(BackupError, match="pseudonym.key: missing; expected 64 bytes"):
        verify(kept)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "missing; expected the folder of a backup that was finished"),
        ("{", "not a manifest of this version"),
        ('{"vigil": "1", "taken_at": "", "home": "/x", "files": {"../x": {"sha256": "", "size": 0}}}', "outside of the backup"),
        (
            '{"vigil": "1", "taken_at": "", "home": "/x", "files": {"/etc/x": {"sha256": "", "size": 0}}}',
            "outside of the backup",
        ),
    ],
)
def test_a_manifest_that_cannot_be_trusted_is_refused(kept, text, message):
    (kept / MANIFEST).unlink() if text is None else (kept / MANIFEST).write_text(text)
    with pytest.raises(BackupError, match=message):
        verify(kept)


def test_nothing_that_is_there_is_overwritten(kept, home, tmp_path):
    for arguments in (
        ["backup", "--home", str(home), "--to", str(kept)],
        ["restore", "--from", str(kept), "--trust", "--home", str(home)],
    ):
        result = CliRunner().invoke(app, arguments)
        assert result.exit_code == 2
        assert "expected a new or an empty folder; name another one" in result.output
    (tmp_path / "home.unfinished").mkdir()
    with pytest.raises(BackupError, match="of a restoration that was cut off; remove it first"):
        restore(kept, tmp_path / "home")
    with pytest.raises(BackupError, match="nothing to back up"):
        backup(tmp_path / "nowhere", tmp_path / "to")
    assert not (tmp_path / "to").exists()


def test_both_commands_say_what_they_did(home, tmp_path):
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


def signed_anew(folder):
    """Checksums that fit what was changed, as anybody can make them; without the key nobody can sign them."""
    said = json.loads((folder / MANIFEST).read_text())
    for name in said["files"]:
        content = (folder / name).read_bytes()
        said["files"][name] = {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content)}
    (folder / MANIFEST).write_text(json.dumps(said, indent=1))


def test_a_backup_that_was_changed_with_its_checksums_is_not_ours(kept, home, tmp_path):
    changed = tmp_path / "changed"
    shutil.copytree(kept, changed)
    verify(changed, home / BACKUP_KEY)
    model = next(changed.rglob("MLmodel"))
    model.write_text(model.read_text() + "\n# changed\n")
    signed_anew(changed)
    assert verify(changed).files  # on trust
    with pytest.raises(BackupError, match="not signed with"):
        restore(changed, tmp_path / "home", home / BACKUP_KEY)
    (changed / "manifest.hmac").unlink()
    with pytest.raises(BackupError, match="not signed with"):
        verify(changed, home / BACKUP_KEY)
    with pytest.raises(BackupError, match="not the key of a home"):
        verify(kept, model)
    other = tmp_path / BACKUP_KEY
    other.write_text("ab" * 32)
    with pytest.raises(BackupError, match="not signed with"):
        verify(kept, other)


def test_a_link_that_leads_out_of_a_backup_is_refused(kept, tmp_path):
    linked = tmp_path / "linked"
    shutil.copytree(kept, linked)
    path = linked / "wards.toml"
    path.unlink(missing_ok=True)
    path.symlink_to("/etc/hostname")
    said = json.loads((linked / MANIFEST).read_text())
    said["files"]["wards.toml"] = {}
    (linked / MANIFEST).write_text(json.dumps(said | {"files": {**said["files"], "wards.toml": {"sha256": "", "size": 0}}}))
    signed_anew(linked)
    with pytest.raises(BackupError, match=r"wards\.toml: leads out of the backup"):
        restore(linked, tmp_path / "home")
    assert not (tmp_path / "home").exists()
