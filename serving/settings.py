"""Settings of the prediction API. Each process of the server reads them once, at its start."""

from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, AnyHttpUrl, Field, TypeAdapter
from pydantic_settings import BaseSettings, SettingsConfigDict

from vigil.serving.auth.local_tokens import LOCAL_AUDIENCE, LOCAL_ISSUER

SOCKET_VARIABLE: Final = "VIGIL_SOCKET"  # sets Settings.socket
LOCAL_LOGIN_VARIABLE: Final = "VIGIL_LOCAL_LOGIN"  # sets Settings.local_login


def _require_http_url(url: str) -> str:
    if url and TypeAdapter(AnyHttpUrl).validate_python(url).password is not None:
        raise ValueError("expected a URL without a password, since a page shows it")
    return url


HttpUrl = Annotated[str, AfterValidator(_require_http_url)]  # empty: there is none


class Settings(BaseSettings):
    """Settings of one server. An environment variable with the prefix ``VIGIL_`` sets each field."""

    model_config = SettingsConfigDict(env_prefix="VIGIL_", frozen=True)

    home: Path = Field(default=Path(".vigil"), description="The directory that holds everything of this installation.")
    task: str = Field(default="deterioration", description="The task that the server answers.")
    token_issuer: str = Field(default=LOCAL_ISSUER, description="The issuer of trusted tokens (iss).")
    token_audience: str = Field(default=LOCAL_AUDIENCE, description="The audience that tokens must name (aud).")
    token_keys: str = Field(
        default="", description="The issuer's public keys (JWKS): a file or an https URL. Default: the keys of `vigil token`."
    )
    url: Annotated[str, AfterValidator(lambda url: url.rstrip("/"))] = Field(
        default="",
        description="The address of this server as others reach it, such as `https://vigil.hospital.example`. "
        "Default: that of the socket.",
    )
    socket: int | None = Field(default=None, description="Descriptor of the listening socket. `vigil serve` sets it.")
    log: Literal["text", "json"] = Field(
        default="text", description="Format of log lines: `text` for people, `json` for programs."
    )
    workers: Annotated[int, Field(ge=1, le=64)] = Field(
        default=1, description="Processes that answer requests. Each takes about 0.7 GB; one rescorer serves them all."
    )
    local_login: bool = Field(
        default=False,
        description="Be an issuer of logins for people on this machine, who choose who they are. "
        "`vigil serve --local-login` sets it.",
    )
    requests_per_second: Annotated[int, Field(ge=1)] = Field(
        default=1_000,
        description="Requests that one caller may send in a second to each of the processes. More are answered with 429.",
    )
    mlflow_url: HttpUrl = Field(
        default="", description="Where people find this home's MLflow, for a link on the page of operations. Default: no link."
    )
    feast_url: HttpUrl = Field(default="", description="The same for Feast.")
    evidently_url: HttpUrl = Field(default="", description="The same for Evidently (`vigil drift ui`).")


def settings_table() -> str:
    """Return the table of settings in Markdown, for the documents."""
    rows = [
        f"| `VIGIL_{name.upper()}` | {field.description} | {f'`{field.default}`' if str(field.default or '') else ''} |"
        for name, field in Settings.model_fields.items()
    ]
    return "\n".join(["| setting | meaning | default |", "| --- | --- | --- |", *rows])
