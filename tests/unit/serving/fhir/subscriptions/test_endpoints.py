"""Where notifications may be sent: whatever is not plainly below a listed URL is not."""

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vigil.serving.fhir.settings import FhirSettings
from vigil.serving.fhir.subscriptions.endpoints import find_allowed, parse_endpoint

LISTED = ["https://ehr.example/hooks/", "https://ehr.example:8443/all", "http://127.0.0.1:9000/", "https://[2001:db8::7]/h/"]


@pytest.mark.parametrize(
    ("url", "sent"),
    [
        ("https://ehr.example/hooks/7", "https://ehr.example/hooks/7"),
        ("https://ehr.example/hooks", "https://ehr.example/hooks"),
        ("https://ehr.example/hooks/", "https://ehr.example/hooks/"),
        ("https://ehr.example:443/hooks/a/b", "https://ehr.example/hooks/a/b"),
        ("HTTPS://EHR.Example/hooks/Aa", "https://ehr.example/hooks/Aa"),
        ("https://ehr.example:8443/all/x", "https://ehr.example:8443/all/x"),
        ("http://127.0.0.1:9000/x", "http://127.0.0.1:9000/x"),
        ("https://[2001:db8::7]/h/1", "https://[2001:db8::7]/h/1"),
        ("https://[2001:0DB8:0:0:0:0:0:7]/h/1", "https://[2001:db8::7]/h/1"),
    ],
)
def test_url_below_a_listed_one_is_allowed_and_sent_to_in_one_form(url, sent):
    endpoint = find_allowed(url, LISTED)
    assert endpoint is not None
    assert endpoint.url == sent
    assert find_allowed(endpoint.url, LISTED) == endpoint


@pytest.mark.parametrize(
    "url",
    [
        "",
        "ehr.example/hooks/",
        "//ehr.example/hooks/",
        "http://ehr.example/hooks/",  # not encrypted
        "https://ehr.example/",
        "https://ehr.example/hooksevil/",
        "https://ehr.example/HOOKS/",  # paths have a case
        "https://ehr.example:8443/hooks/",  # another port
        "https://ehr.example:80/hooks/",
        "https://ehr.example:0/hooks/",
        "https://ehr.example:99999/hooks/",
        "https://ehr.example:/hooks/",
        "https://user@ehr.example/hooks/",
        "https://user:password@ehr.example/hooks/",
        "https://ehr.example@evil.example/hooks/",
        "https://evil.example/@ehr.example/hooks/",
        "https://ehr.example.evil.example/hooks/",
        "https://evilehr.example/hooks/",
        "https://ehr.example./hooks/",
        "https://ehr.example\\@evil.example/hooks/",
        "https://ehr.example/hooks/../admin",
        "https://ehr.example/hooks/..",
        "https://ehr.example/hooks/./x",
        "https://ehr.example/hooks/%2e%2e/admin",
        "https://ehr.example/hooks/..%2fadmin",
        "https://ehr.example/hooks//x",
        "https://ehr.example/hooks/x?next=https://evil.example",
        "https://ehr.example/hooks/x#y",
        "https://ehr.example/hooks/x y",
        "https://ehr.example/hooks/x\r\nHost: evil.example",
        "https://ehr.example/hooks/x\n",
        "https://ehr.example/hooks/ä",
        "https://ehr.exampłe/hooks/",
        "https://[::1]/hooks/",
        "https://[2001:db8::8]/h/1",
        "https://[2001:db8::7%25eth0]/h/1",
        "https://[::ffff:127.0.0.1]/h/1",
        "https://2130706433/hooks/",
        "https://127.1/hooks/",
        "http://127.0.0.1:9001/x",
        "http://127.0.0.1/x",
        "http://localhost:9000/x",
        "http://[::1]:9000/x",
        "https://169.254.169.254/hooks/",
        "ftp://ehr.example/hooks/",
        "file:///etc/passwd",
        "https://ehr.example/hooks/" + "x" * 1000,
    ],
)
def test_any_other_url_is_not(url):
    assert find_allowed(url, LISTED) is None


def test_nothing_is_allowed_where_nothing_is_listed():
    assert find_allowed("https://ehr.example/hooks/", []) is None


@given(st.from_regex(r"https?://[^\x00]{0,30}", fullmatch=True))
def test_http_client_understands_what_was_compared(url):
    endpoint = parse_endpoint(url)
    if endpoint is not None:
        understood = httpx.URL(endpoint.url)
        assert (understood.scheme, understood.host) == (endpoint.scheme, endpoint.host.strip("[]"))
        assert (understood.port or {"https": 443, "http": 80}[understood.scheme]) == endpoint.port
        assert (understood.userinfo, understood.query, understood.fragment) == (b"", b"", "")
        assert understood.path.split("/")[1:] == list(endpoint.segments)


@pytest.mark.parametrize(
    "url", ["http://ehr.example/", "https://user@ehr.example/", "ehr.example", "https://ehr.example/a/../b"]
)
def test_list_of_endpoints_holds_usable_ones_only(url):
    with pytest.raises(ValueError, match="subscription_endpoints"):
        FhirSettings(subscription_endpoints=(url,))
