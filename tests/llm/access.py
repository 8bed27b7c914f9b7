"""How to call the catalogue's providers, at another address if a test gives one."""

from llm.types import ProviderAccess


def access_of(provider_id: str, api_base_url: str | None = None) -> ProviderAccess:
    from llm import catalogue  # pytest may load this file before Django is set up

    (seed,) = (seed for seed in catalogue.PROVIDERS if seed.id == provider_id)
    return ProviderAccess(seed.id, seed.wire.value, api_base_url, seed.key_variable)
