"""Settings of the prediction API, read once, when a process of it starts."""

from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from serving.auth.local_tokens import LOCAL_AUDIENCE, LOCAL_ISSUER

SOCKET_VARIABLE: Final = "VIGIL_SOCKET"  # of the setting below


class Settings(BaseSettings):
    """Each field can be set as an environment variable with the prefix ``VIGIL_``."""

    model_config = SettingsConfigDict(env_prefix="VIGIL_", frozen=True)

    home: Path = Field(default=Path(".vigil"), description="Where features, models and logs live.")
    task: str = Field(default="deterioration", description="The registered model to serve.")
    token_issuer: str = Field(default=LOCAL_ISSUER, description="Whose tokens are trusted (iss).")
    token_audience: str = Field(default=LOCAL_AUDIENCE, description="What tokens must be for (aud).")
    token_keys: str = Field(
        default="", description="The issuer's public keys (JWKS): a file or an https URL. Default: those of `vigil token`."
    )
    socket: int | None = Field(default=None, description="Descriptor of the socket that `vigil serve` has bound; set by it.")
    log: Literal["text", "json"] = Field(default="text", description="Lines of the log for people, or as JSON for programs.")
    requests_per_second: Annotated[int, Field(ge=1)] = Field(default=1_000, description="Of one caller; more get 429.")


def settings_table() -> str:
    """Every setting in Markdown, for the documents."""
    rows = [
        f"| `VIGIL_{name.upper()}` | {field.description} | {f'`{field.default}`' if str(field.default or '') else ''} |"
        for name, field in Settings.model_fields.items()
    ]
    return "\n".join(["| setting | meaning | default |", "| --- | --- | --- |", *rows])
