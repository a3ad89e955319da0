"""An endpoint for notifications on the loopback interface, and what a client sends to subscribe it."""

import ipaddress
import json
import ssl
import threading
import time
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

BACKPORT = "http://hl7.org/fhir/uv/subscriptions-backport/StructureDefinition"
RISK_CHANGED, ALARM = "urn:vigil:topic:risk-changed", "urn:vigil:topic:alarm"
_PERIODS = {"heartbeat": "valueUnsignedInt", "timeout": "valueUnsignedInt", "max_count": "valuePositiveInt"}
_NAMES = {"heartbeat": "heartbeat-period", "timeout": "timeout", "max_count": "max-count"}


def subscription(endpoint, topic=RISK_CHANGED, content="id-only", filters=(), header=None, status="requested", **more):
    """Return a Subscription of the Backport; ``heartbeat``, ``timeout`` and ``max_count`` become extensions."""
    extensions = [
        {"url": f"{BACKPORT}/backport-{_NAMES[name]}", member: more.pop(name)}
        for name, member in _PERIODS.items()
        if name in more
    ]
    channel = {
        "type": "rest-hook",
        "endpoint": endpoint,
        "payload": "application/fhir+json",
        "_payload": {"extension": [{"url": f"{BACKPORT}/backport-payload-content", "valueCode": content}]},
    }
    resource = {
        "resourceType": "Subscription",
        "status": status,
        "reason": "tests",
        "criteria": topic,
        "channel": channel | ({"extension": extensions} if extensions else {}) | ({} if header is None else {"header": header}),
    }
    if filters:
        own = [{"url": f"{BACKPORT}/backport-filter-criteria", "valueString": text} for text in filters]
        resource["_criteria"] = {"extension": own}
    return resource | more


class Notification:
    """A request that the endpoint received."""

    def __init__(self, path, headers, body):
        self.path, self.headers, self.at = path, headers, time.monotonic()
        self.bundle = json.loads(body)
        self.status = self.bundle["entry"][0]["resource"]
        self.resources = [entry["resource"] for entry in self.bundle["entry"][1:]]

    def value(self, name):
        """Return the one value of a parameter of the status."""
        ((_, value),) = next(each for each in self.status["parameter"] if each["name"] == name).items() - {("name", name)}
        return value

    def texts(self, name):
        return [each["valueCodeableConcept"]["text"] for each in self.status["parameter"] if each["name"] == name]

    @property
    def kind(self):
        return next(each["valueCode"] for each in self.status["parameter"] if each["name"] == "type")

    @property
    def count(self):
        (text,) = (
            each["valueString"] for each in self.status["parameter"] if each["name"] == "events-since-subscription-start"
        )
        return int(text)

    @property
    def events(self):
        """The events, each with its parts by name."""
        events = [each["part"] for each in self.status["parameter"] if each["name"] == "notification-event"]
        return [
            {part["name"]: next(value for name, value in part.items() if name != "name") for part in parts} for parts in events
        ]

    @property
    def numbers(self):
        return [int(event["event-number"]) for event in self.events]


class Receiver:
    """The endpoint. ``answer``: returns the status for a notification, which a test may replace."""

    def __init__(self, certificate=None):
        self.received = []
        self.answer = lambda _: 200
        self.location = None
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"  # connections stay open

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                notification = Notification(self.path, dict(self.headers), body)
                receiver.received.append(notification)
                self.send_response(receiver.answer(notification))
                if receiver.location is not None:
                    self.send_header("Location", receiver.location)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_):
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 128  # connections that come at once

        self.server = Server(("127.0.0.1", 0), Handler)
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True, do_handshake_on_connect=False)
        self.url = f"{'http' if certificate is None else 'https'}://127.0.0.1:{self.server.server_port}/hooks/"

    def wait(self, condition, seconds=15):
        """Return what the endpoint received once a condition of it holds."""
        deadline = time.monotonic() + seconds
        while not condition(self.received):
            assert time.monotonic() < deadline, [(each.kind, each.numbers) for each in self.received]
            time.sleep(0.02)
        return self.received

    def wait_for(self, kind, number=1, seconds=15):
        """Return the first notifications of a kind."""
        self.wait(lambda received: sum(each.kind == kind for each in received) >= number, seconds)
        return [each for each in self.received if each.kind == kind][:number]

    def numbers(self):
        """Return the numbers of all events, in the order in which they arrived."""
        return [number for each in self.received for number in each.numbers]


@contextmanager
def receiving(certificate=None):
    """Open an endpoint, and close it at the end. ``certificate``: PEM with its key, for TLS."""
    receiver = Receiver(certificate)
    thread = threading.Thread(target=receiver.server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield receiver
    finally:
        receiver.server.shutdown()
        receiver.server.server_close()
        thread.join()


def register(home, *endpoints, clients=None):
    """Write the endpoints that are allowed, and the registered clients: scopes and wards by name."""
    (home / "fhir.toml").write_text(f'patient_system = "urn:mrn"\nsubscription_endpoints = {json.dumps(list(endpoints))}\n')
    tables = []
    for name, (scopes, wards) in (clients or {"ehr": (["system/*.cruds"], None)}).items():
        own = "" if wards is None else f"wards = {json.dumps(wards)}\n"
        tables.append(f'[clients.{name}]\nkeys = "ehr.jwks.json"\nscopes = {json.dumps(scopes)}\n{own}')
    (home / "clients.toml").write_text("\n".join(tables))


def write_certificate(path):
    """Write a certificate of 127.0.0.1, signed by itself, and its key."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "tests")])
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(7)
    builder = builder.not_valid_before(now - timedelta(hours=1)).not_valid_after(now + timedelta(hours=1))
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    builder = builder.add_extension(address, critical=False)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    certificate = builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    plain = serialization.NoEncryption()
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
    path.write_bytes(certificate + private)
    return path
