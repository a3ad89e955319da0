"""The few pages of a login: a choice, a refusal, the end of a session. They load nothing and run no script.

They are in the language of the browser. What an issuer or those who connect one did wrong is told in English.
"""

from typing import Any, Final

from fastapi.responses import HTMLResponse
from jinja2 import Environment

from vigil.serving.words import Words

# As for all pages, and forms may be sent to this server, which for the others they may not.
FORM_POLICY: Final = (
    "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'"
)
_TEMPLATE: Final = Environment(autoescape=True).from_string(
    """<!doctype html>
<html lang="{{ language }}">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ title }} - Vigil</title>
<style>
body { font: 16px/1.5 system-ui, sans-serif; max-width: 34rem; margin: 4rem auto; padding: 0 1rem; color: #1b1f24; }
label { display: block; margin: .75rem 0; }
input, select, button { font: inherit; padding: .35rem .5rem; }
input, select { display: block; width: 100%; box-sizing: border-box; }
</style>
<h1>{{ title }}</h1>
{% if text %}<p>{{ text }}</p>{% endif %}
{% if detail %}<p lang="en"><small>{{ detail }}</small></p>{% endif %}
{% if links %}<ul>{% for name, path in links %}<li><a href="{{ path }}">{{ name }}</a></li>{% endfor %}</ul>{% endif %}
{% if fields %}
<form method="post" action="{{ action }}">
{% for name, value in hidden %}<input type="hidden" name="{{ name }}" value="{{ value }}">
{% endfor %}
{% for name, label, options in fields %}
<label>{{ label }}
{% if options %}<select name="{{ name }}">
{% for value, shown in options %}<option value="{{ value }}">{{ shown }}</option>{% endfor %}</select>
{% else %}<input name="{{ name }}" autocomplete="off">{% endif %}</label>
{% endfor %}
<button>{{ title }}</button>
</form>
{% endif %}
</html>
"""
)


def page(words: Words, title: str, text: str = "", status: int = 200, **more: Any) -> HTMLResponse:
    """Return a page.

    Args:
        words: in the language of the browser.
        title: key of its heading, which is also the text of the button of a form.
        text: a paragraph.
        status: of HTTP.
        more: ``detail`` in English, for those who run Vigil or the issuer; ``links`` as pairs of name and path; or a form:
            ``action``, ``hidden`` as pairs of name and value, and ``fields`` of name, label and options, as pairs of value and
            name, which are empty where a text is entered.
    """
    content = _TEMPLATE.render(language=words.language, title=words(title), text=text, **more)
    return HTMLResponse(content, status, {"Content-Security-Policy": FORM_POLICY})


def refusal(words: Words, detail: str, status: int) -> HTMLResponse:
    """Return the page of a login that was refused; ``detail`` says why."""
    links = [(words("login.again"), "/login")]
    return page(words, "login.refused", words("login.refused_text"), status, detail=detail, links=links)
