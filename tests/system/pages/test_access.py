"""The pages for everyone: axe finds nothing, the keyboard reaches everything, nothing is cut at any width, nothing moves."""

import pytest

from tests.support.chromium import SIZES, violations

PATHS = (
    "/wards",
    "/ward/B4",
    "/ward/B4?visits=3",
    "/operations",
    "/patient",
    "/patient/summary",
    "/patient/glucose",
    "/refused",
)
FOCUSABLE = "a[href], button:not([hidden]), input:not([type=hidden]), select, summary, [tabindex='0']"


@pytest.fixture
def open_path(look):
    """``open_path(path, **options)``: a page; ``/patient`` is that of the first patient of the ward."""

    def go(path, **options):
        viewer = look("/wards", role="operator" if path == "/operations" else "physician", **options)
        page = viewer.page
        if path == "/refused":
            path = "/patient/aaaaaaaaaaaaaaaaaaaaaaaa"
        elif path.startswith("/patient"):
            page.goto("/ward/B4")
            own = page.locator(".row .name").first.get_attribute("href")
            path = own + path.removeprefix("/patient")
        page.goto(path)
        if "/ward/" in path:
            page.locator("#live.on").wait_for()
        if path.endswith("/aaaaaaaaaaaaaaaaaaaaaaaa"):
            assert viewer.faults.pop().endswith("404 (Not Found)")  # the browser tells of it, and it is meant
        return page

    return go


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("path", PATHS)
def test_axe_finds_no_violation_and_nothing_is_cut(open_path, axe, path, size):
    page = open_path(path, size=size)
    assert violations(page, axe) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= SIZES[size][0]
    wider = "[...document.querySelectorAll('.signals li')].filter((one) => one.scrollWidth > one.clientWidth + 1).length"
    assert page.evaluate(wider) == 0  # else the figures of one signal would lie over those of the next


def test_axe_finds_no_violation_where_an_override_is_chosen_and_in_german(open_path, axe):
    page = open_path("/ward/B4", language="de")
    page.locator("summary").first.click()
    assert page.locator("select").first.is_visible()
    assert violations(page, axe) == []


@pytest.mark.parametrize("path", ["/ward/B4", "/operations", "/patient"])
def test_the_keyboard_reaches_every_control_and_the_focus_is_seen(open_path, path):
    page = open_path(path)
    page.evaluate("document.activeElement.blur()")
    wanted = page.evaluate(
        """selector => [...document.querySelectorAll(selector)].filter((one) => one.checkVisibility())
            .map((one, place) => { one.dataset.place = place; return place; })""",
        FOCUSABLE,
    )
    reached, unseen = set(), []
    for _ in range(2 * len(wanted) + 5):
        page.keyboard.press("Tab")
        place, outline, name = page.evaluate(
            """() => {
                const one = document.activeElement, style = getComputedStyle(one);
                const width = style.outlineStyle === "none" ? 0 : parseFloat(style.outlineWidth);
                return [one.dataset.place, width, one.outerHTML];
            }"""
        )
        if place is not None:
            reached.add(int(place))
            unseen += [name] if outline < 2 else []
    assert len(wanted) > 5
    assert reached == set(wanted)
    assert unseen == []


def test_the_keyboard_skips_to_the_content(open_path):
    page = open_path("/ward/B4")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert page.evaluate("location.hash") == "#content"


def test_an_alarm_is_acknowledged_with_the_keyboard_alone(open_path):
    page = open_path("/ward/B4")
    button = page.get_by_role("button", name="Acknowledge").first
    row = page.locator("#" + button.evaluate("one => one.closest('li').id"))
    button.focus()
    page.keyboard.press("Enter")
    row.locator(".care").wait_for()


@pytest.mark.parametrize("motion", ["reduce", "no-preference"])
def test_nothing_moves(open_path, motion):
    page = open_path("/ward/B4", reduced_motion=motion)
    page.wait_for_timeout(2_000)
    assert page.evaluate("document.getAnimations().length") == 0


def test_times_are_in_the_zone_of_the_viewer_and_in_utc_on_hover(open_path):
    page = open_path("/ward/B4", timezone_id="Asia/Kolkata")
    time = page.locator(".alarm time").first
    utc = time.get_attribute("title")
    assert utc.endswith("UTC")
    hours, minutes = (int(part) for part in utc.split()[1].split(":")[:2])
    shown = (60 * hours + minutes + 330) % 1440
    assert time.inner_text().endswith(f"{shown // 60:02}:{shown % 60:02}")


def test_sound_is_off_until_the_viewer_turns_it_on(open_path):
    page = open_path("/ward/B4")
    button = page.locator("#sound")
    assert (button.inner_text(), button.get_attribute("aria-pressed")) == ("Turn sound on", "false")
    button.click()
    page.get_by_role("button", name="Turn sound off", pressed=True).wait_for()
    button.click()
    page.get_by_role("button", name="Turn sound on", pressed=False).wait_for()
