"""What the scripts of the pages do, in a browser whose clock the test moves: logoff, NOT LIVE, ages, rows in use, sound."""

import pytest

from tests.support.in_process_server import SICK, WELL

REFUSED = "Failed to load resource"  # what a browser tells of an answer that is an error
MINUTE = 60_000
AUDIO = """
window.tones = [];
window.AudioContext = class extends EventTarget {
    state = "running"; currentTime = 0; resumed = 0;
    constructor() { super(); window.audio = this; }
    async resume() { this.resumed += 1; this.change("running"); }
    async close() { this.change("closed"); }
    change(state) { this.state = state; this.dispatchEvent(new Event("statechange")); }
    createOscillator() {
        const frequency = { set value(pitch) { window.tones.push(pitch); } };
        return { frequency, connect: (next) => next, start() {}, stop() {} };
    }
    createGain() { return { gain: {}, connect: (next) => next }; }
};
"""


@pytest.fixture(scope="module", autouse=True)
def patients(ward_here):
    ward_here.register(["Anna", "Bert", "Carl"], "B4")
    for name, values in (("Anna", WELL), ("Bert", SICK), ("Carl", WELL)):
        ward_here.send(name, values)


@pytest.fixture
def anna(ward_here):
    """The path of the page of a patient."""
    return ward_here.patient_path("Anna")


def row_of(page, name):
    return page.locator(".row", has=page.get_by_role("link", name=name, exact=True))


def names(page):
    return page.locator(".row .name").all_inner_texts()


def block(page, path, status=503):
    """Let requests of a page fail."""
    page.route(path, lambda route: route.fulfill(status=status, body=""))


@pytest.mark.parametrize(
    "path", ["", "?since=2026-01-01T00:00:00Z&until=2026-01-01T06:00:00Z", "/summary", "/glucose", "/operations", "/ward/B4"]
)
def test_a_page_whose_session_has_ended_leaves_and_waits_for_a_click(visit, ward_here, anna, path):
    path = path if path in {"/operations", "/ward/B4"} else f"{anna}{path}"
    page = visit(path, tells=[REFUSED])
    ward_here.end_session()
    page.clock.fast_forward(MINUTE + 1_000)
    page.wait_for_url("**/login/ended?next=*")
    assert page.get_by_role("heading").inner_text() == "Logged off"
    assert "Anna" not in page.content()
    page.wait_for_timeout(500)
    assert "/login/ended" in page.url
    page.get_by_role("link", name="Log in again").click()
    page.locator("[name=role]").wait_for()


def test_asking_whether_the_session_goes_on_does_not_extend_it(visit, ward_here, anna):
    page = visit(f"{anna}/summary")
    login = ward_here.inner.components.login
    used = login.find_session(ward_here.session, is_use=False).used_at
    with page.expect_response("**/login/session") as answer:
        page.clock.fast_forward(MINUTE + 1_000)
    assert answer.value.status == 200
    assert login.find_session(ward_here.session, is_use=False).used_at == used


@pytest.mark.parametrize("status", [403, 404, 429, 503, None])
def test_a_patient_page_that_is_not_renewed_says_so_and_its_ages_grow(visit, ward_here, anna, status):
    ward_here.send("Anna", WELL)
    page = visit(anna, tells=[REFUSED])
    page.locator("#live.on").wait_for()
    age = page.locator(".person [data-since]")
    assert age.inner_text() == "now"
    page.route("**/live", lambda route: route.abort() if status is None else route.fulfill(status=status, body=""))
    page.clock.fast_forward(10 * MINUTE)
    page.locator("#live.off").wait_for()
    assert "NOT LIVE: nothing new since" in page.locator("#live").inner_text()
    assert age.inner_text() == "10 min"
    assert page.locator(".signals [data-since]").first.inner_text() == "10 min"
    page.unroute("**/live")
    page.clock.fast_forward(10_500)
    page.locator("#live.on").wait_for()
    page.wait_for_function("() => document.querySelector('.person [data-since]').textContent === 'now'")


@pytest.mark.parametrize(
    ("hours", "text"), [(0.004, "now"), (0.51, "31 min"), (1.98, "119 min"), (2.02, "2 h"), (47.6, "48 h"), (50, "2 d")]
)
def test_ages_grow_by_the_rules_of_the_server(visit, anna, hours, text):
    page = visit(f"{anna}/glucose")
    page.evaluate(
        """hours => {
            const at = new Date(Date.parse(document.body.dataset.at) - 3600000 * hours).toISOString();
            document.querySelector("main").innerHTML = `<p id="age" data-since="${at}" data-text="latest: #"></p>`;
        }""",
        hours,
    )
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.locator("#age").inner_text() == f"latest: {text}"


def test_ages_are_told_by_the_clock_of_the_server(visit, ward_here, anna):
    ward_here.send("Anna", WELL)
    page = visit(anna, before="const real = Date.now; Date.now = () => real() - 7200000;")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.locator(".person [data-since]").inner_text() == "now"


def test_a_finger_that_scrolls_over_a_chart_does_not_stop_the_page(visit, anna):
    page = visit(anna, size="phone", has_touch=True)
    page.locator("#live.on").wait_for()
    chart = page.locator("svg.chart").first
    chart.scroll_into_view_if_needed()
    box = chart.bounding_box()
    page.evaluate("window.ended = []; addEventListener('pointercancel', () => ended.push(1))")
    touch = page.context.new_cdp_session(page)
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    touch.send("Input.dispatchTouchEvent", {"type": "touchStart", "touchPoints": [{"x": x, "y": y}]})
    for step in range(1, 8):
        touch.send("Input.dispatchTouchEvent", {"type": "touchMove", "touchPoints": [{"x": x, "y": y - 20 * step}]})
    page.wait_for_function("() => window.ended.length")
    touch.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    assert page.locator("rect.zoom").count() == 0
    with page.expect_response("**/live") as answer:
        page.clock.fast_forward(30_500)
    assert answer.value.ok
    assert "until" not in page.url


def test_the_focus_stays_where_it_was_when_a_patient_page_is_renewed(visit, anna):
    page = visit(anna)
    for link in ("One-page summary", "as PDF"):  # the second has the viewer's zone in its path
        page.get_by_role("link", name=link).focus()
        page.evaluate("document.activeElement.isOld = true")
        with page.expect_response("**/live"):
            page.clock.fast_forward(30_500)
        page.wait_for_function("() => !document.activeElement.isOld")
        assert page.evaluate("document.activeElement.textContent") == link


def test_a_row_in_use_is_renewed_except_for_what_is_used(visit, ward_here):
    page = visit("/ward/B4")
    page.locator("#live.on").wait_for()
    row = row_of(page, "Bert")
    row.locator("summary").click()
    row.locator("select").select_option("artefact")
    row.locator("select").focus()
    ward_here.send("Bert", SICK | {"heart_rate": 141, "systolic_bp": 125})
    row.get_by_text("141", exact=False).first.wait_for()
    assert row.locator("details[open] select").input_value() == "artefact"
    assert page.evaluate("document.activeElement.tagName") == "SELECT"
    page.get_by_role("link", name="Carl").focus()
    ward_here.send("Carl", WELL | {"heart_rate": 93})
    row_of(page, "Carl").get_by_text("93", exact=False).first.wait_for()
    assert page.evaluate("document.activeElement.textContent") == "Carl"


def test_rows_stay_where_they_are_under_a_pointer_and_a_row_in_use_never_moves(visit, ward_here):
    ward_here.register(["Dora", "Emil", "Fred"], "E1")
    for name, values in (("Dora", WELL | {"heart_rate": 115}), ("Emil", WELL | {"heart_rate": 95}), ("Fred", WELL)):
        ward_here.send(name, values)
    page = visit("/ward/E1")
    page.locator("#live.on").wait_for()
    page.wait_for_timeout(1_500)  # the first news
    assert names(page) == ["Dora", "Emil", "Fred"]
    row_of(page, "Emil").hover()
    page.mouse.down()
    ward_here.send("Fred", SICK)
    row_of(page, "Fred").get_by_role("button", name="Acknowledge").wait_for()
    page.wait_for_timeout(1_000)
    assert names(page) == ["Dora", "Emil", "Fred"]
    page.mouse.up()
    page.wait_for_function("() => document.querySelector('.row .name').textContent === 'Fred'")
    assert names(page) == ["Fred", "Dora", "Emil"]

    page.get_by_role("link", name="Dora").focus()
    ward_here.send("Emil", SICK)
    row_of(page, "Emil").get_by_role("button", name="Acknowledge").wait_for()
    page.wait_for_timeout(3_000)
    assert names(page) == ["Fred", "Dora", "Emil"]
    page.clock.fast_forward(8_000)
    page.wait_for_timeout(1_000)
    assert sorted(names(page)) == ["Dora", "Emil", "Fred"]
    assert names(page)[1] == "Dora"
    assert page.evaluate("document.activeElement.textContent") == "Dora"
    page.evaluate("document.activeElement.blur()")
    page.wait_for_function("() => [...document.querySelectorAll('.row .name')][2].textContent === 'Dora'")


def test_an_action_that_is_not_stored_is_told_once_and_rightly(visit):
    page = visit("/ward/B4", tells=[REFUSED])
    page.locator("#live.on").wait_for()
    row = row_of(page, "Bert")
    button = row.get_by_role("button", name="Acknowledge")
    for status, text in ((503, "Not stored. Try again."), (409, "Someone has already acted on this alarm.")):
        block(page, "**/alarms/*", status)
        for _ in range(2):
            button.click()
            row.get_by_text(text).wait_for()
            page.wait_for_function("() => !document.activeElement.disabled")
        assert row.locator("[role=alert]").all_inner_texts() == [text]
        page.unroute("**/alarms/*")


def test_visits_are_chosen_anew_while_the_page_is_live(visit, ward_here):
    page = visit("/ward/F2?visits=1")
    page.locator("#live.on").wait_for()
    assert page.get_by_text("Is its name spelt correctly?").is_visible()
    ward_here.register(["Gina"], "F2")
    ward_here.send("Gina", WELL)
    row_of(page, "Gina").wait_for()
    assert page.get_by_text("Is its name spelt correctly?").count() == 0
    page.get_by_text("Nobody is left out.").wait_for()
    ward_here.register(["Hans"], "F2")
    ward_here.send("Hans", SICK)
    page.get_by_text("Left out: 1.").wait_for()
    page.wait_for_function("() => [...document.querySelectorAll('#patients > li')][1].id === 'cut'")
    assert names(page) == ["Hans", "Gina"]
    ward_here.send("Gina", SICK)
    page.get_by_text("High risk: 1").wait_for()


def test_show_with_an_empty_field_shows_everyone(visit):
    page = visit("/ward/B4?visits=1")
    page.locator("[name=visits]").fill("")
    page.get_by_role("button", name="Show").click()
    page.wait_for_url("**/ward/B4?visits=")
    assert sorted(names(page)) == ["Anna", "Bert", "Carl"]
    assert page.locator("#cut").count() == 0


def test_a_lost_connection_has_a_tone_of_its_own_and_is_told_once(visit):
    page = visit("/ward/B4", before=AUDIO, tells=["net::ERR_"])
    page.locator("#live.on").wait_for()
    page.locator("#sound").click()
    page.wait_for_function("() => tones.length")
    page.evaluate("tones.length = 0; window.audio.change('suspended')")
    assert page.locator("#sound").inner_text() == "Turn sound on"
    page.evaluate(
        """() => {
            window.told = 0;
            new MutationObserver((changes) => { window.told += changes.length > 0; })
                .observe(document.getElementById("live"), { childList: true, characterData: true, subtree: true });
        }"""
    )
    page.context.set_offline(True)
    page.clock.fast_forward(13_000)
    page.locator("#live.off").wait_for()
    page.wait_for_function("() => tones.length")
    assert page.evaluate("[tones, audio.resumed > 0]") == [[220], True]
    assert page.locator("#sound").inner_text() == "Turn sound off"
    told = page.evaluate("told")
    page.clock.run_for(5_000)
    page.wait_for_timeout(200)
    assert page.evaluate("[told, tones.length]") == [told, 1]
