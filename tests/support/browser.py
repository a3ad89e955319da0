"""A browser, as far as a login needs one: it keeps cookies, follows redirects, and fills in the form of the local login."""

import re

import httpx


def open_browser(url, **options):
    return httpx.Client(base_url=url, timeout=30, headers={"Accept": "text/html"}, **options)


def fill_form(answer, **choices):
    """Return action and fields of the form of a page, with choices."""
    (action,) = re.findall(r'<form method="post" action="([^"]+)"', answer.text)
    hidden = dict(re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)"', answer.text))
    offered = set(re.findall(r'<(?:input|select) name="([^"]+)"', answer.text))
    assert choices.keys() <= offered
    return action, {**dict.fromkeys(offered, ""), **hidden, **choices}


def log_in(browser, start="/login", **choices):
    """Log in by the local login; return the answer of the return, which is not followed."""
    chosen = browser.get(start, follow_redirects=True)
    assert chosen.status_code == 200, chosen.text
    action, form = fill_form(chosen, **choices)
    sent = browser.post(action, data=form)
    assert sent.status_code == 303, sent.text
    return browser.get(sent.headers["location"])
