"""Settings of the prediction API, read once, when the server starts."""

from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """Each field can be set as an environment variable with the prefix ``VIGIL_``."""

    model_config = SettingsConfigDict(env_prefix="VIGIL_", frozen=True)

    home: Path = Field(default=Path(".vigil"), description="Where features, models and logs live.")
    task: str = Field(default="deterioration", description="The registered model to serve.")
