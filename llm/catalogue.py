"""The providers, models and pipeline of a new installation. `catalogue_seed` inserts them, and never changes a row."""

from dataclasses import dataclass

from llm.keys import KEY_VARIABLES
from llm.models import ModelClass, Wire


@dataclass(frozen=True)
class SeedProvider:
    id: str
    display_name: str
    wire: Wire
    # "": it needs no key.
    key_variable: str = ""


@dataclass(frozen=True)
class SeedModel:
    provider_id: str
    model_name: str
    model_class: ModelClass
    # Output limit of one call, reasoning included. An article in Japanese has about 8,000 tokens.
    max_output_tokens: int = 16_000
    # None: taken from the price list.
    context_window: int | None = None


@dataclass(frozen=True)
class SeedStep:
    step: str
    position: int
    model_class: ModelClass


PROVIDERS = (
    SeedProvider("claude", "Anthropic Claude", Wire.ANTHROPIC, KEY_VARIABLES["anthropic"]),
    SeedProvider("gemini", "Google Gemini", Wire.GEMINI, KEY_VARIABLES["gemini"]),
    SeedProvider("openai", "OpenAI", Wire.OPENAI, KEY_VARIABLES["openai"]),
    SeedProvider("local", "Local LLM", Wire.OPENAI),
)

# Each provider's current models in several price ranges. Steps use the last one of each class: "pro" for demanding
# work, "standard" for the rest. Runs may name the others, and staff may prefer them.
MODELS = (
    SeedModel("claude", "claude-fable-5-2", ModelClass.PRO),
    SeedModel("claude", "claude-opus-5-5", ModelClass.PRO),
    SeedModel("claude", "claude-haiku-5-5", ModelClass.STANDARD),
    SeedModel("claude", "claude-sonnet-5-5", ModelClass.STANDARD),
    SeedModel("gemini", "gemini-4-argon", ModelClass.PRO),
    SeedModel("gemini", "gemini-3.5-flash-lite", ModelClass.STANDARD),
    SeedModel("gemini", "gemini-3.8-flash", ModelClass.STANDARD),
    SeedModel("openai", "gpt-6-astra", ModelClass.PRO),
    SeedModel("openai", "gpt-6.1-sol", ModelClass.PRO),
    SeedModel("openai", "gpt-6-luna", ModelClass.STANDARD),
    SeedModel("openai", "gpt-6.1-terra", ModelClass.STANDARD),
    # The embedded server has only this model; `llm.selectors.resolve_model` uses it for the other class too. A small
    # model repeats itself after a few hundred tokens, and a CPU generates about 40 per second.
    SeedModel("local", "SmolLM2-135M-Instruct", ModelClass.STANDARD, max_output_tokens=320, context_window=4096),
)

PIPELINE = (
    SeedStep("keyword_analysis", 10, ModelClass.STANDARD),
    SeedStep("outline", 20, ModelClass.STANDARD),
    SeedStep("draft", 30, ModelClass.PRO),
    SeedStep("final", 40, ModelClass.PRO),
)
