"""A server that is killed while FHIR clients send: what it acknowledged is in the journal once; `make soak` kills more."""

from tests.soak.fhir_kill import SENDERS, kill_while_fhir_clients_send
from tests.soak.home import copy_home


def test_killed_server_loses_and_doubles_no_observation(home, peer, tmp_path):
    for name, program in SENDERS.values():
        peer(name, program)
    report = kill_while_fhir_clients_send(copy_home(home, tmp_path / "killed"), kills=5, seed=1)
    assert report.faults == []
    assert report.kills.total() == 5
    assert min(report.acknowledged.values()) > 5
