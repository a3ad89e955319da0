"""A ward without a model, served to real browsers from inside the test's process, so that a test can end a session."""

import threading
from contextlib import contextmanager

import pytest
import uvicorn

from tests.support.in_process_server import observations_body, running_in_process
from tests.support.viewer import start_session
from vigil.pipelines.operations.server import address, bind_socket
from vigil.serving.api.front import Front
from vigil.serving.login.cookies import session_cookie


class BrowserWard:
    """The server.

    Attributes:
        url: by which browsers reach it.
        inner: the server inside the process.
        session: name of the session that was started last.
    """

    def __init__(self, inner, url):
        self.inner, self.url, self.session = inner, url, None
        self._caller = inner.caller()

    def cookie(self):
        """Start a session, and return its cookie as Playwright has it."""
        self.session = start_session(self.inner)
        return {"name": session_cookie(self.inner.components.login), "value": self.session, "url": self.url}

    def end_session(self):
        """End the session that was started last, as when nobody used it for a while."""
        self.inner.components.login.sessions.end(self.session)

    def register(self, names, ward):
        """Let patients come to a ward."""
        patients = [{"patient_id": name, "ward": ward, "age": 70} for name in names]
        self._caller.post("/v1/patients", json={"patients": patients}).raise_for_status()

    def send(self, name, values, at=None):
        """Send what was measured at a patient, and renew their risk."""
        self._caller.post("/v1/observations", json=observations_body(name, values, at)).raise_for_status()
        self.inner.rescore()

    def patient_path(self, name):
        """Return the path of the page of a patient."""
        components = self.inner.components
        return components.directory.page(components.pseudonyms.subject_key(name))


@contextmanager
def running_browser_ward(home):
    """Serve a home, whose own logins are offered."""
    with bind_socket() as listener, pytest.MonkeyPatch.context() as patched:
        url = address(listener)
        patched.setenv("VIGIL_URL", url)
        patched.setenv("VIGIL_LOCAL_LOGIN", "true")
        with running_in_process(home) as inner:
            server = uvicorn.Server(uvicorn.Config(Front(inner.app, inner.app.state), log_level="warning", lifespan="off"))
            thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
            thread.start()
            try:
                yield BrowserWard(inner, url)
            finally:
                server.should_exit = server.force_exit = True
                thread.join(timeout=20)
