"""A run's configuration: defaults, what is stripped, and the message of each refusal."""

import json

import pytest

from runs.config import RunConfig, config_from_document, config_from_text
from runs.errors import InvalidRunConfig

pytestmark = pytest.mark.unit

REFUSED = "The run's configuration is invalid: "
NAMES = "(at most 63 lower-case letters, digits and _, starting with a letter)."
NOT_JSON = "The run's configuration cannot be read as JSON: "
LOOKS_LIKE = ' Example: {"keyword": "coffee grinder", "language": "en"}.'


def keyword(**more: object) -> str:
    return json.dumps({"keyword": "a", **more})


def test_a_keyword_is_enough_and_japanese_is_the_default() -> None:
    config = config_from_text('{"keyword": " 珈琲　ミル "}')
    assert (config.keyword, config.language, config.steps, config.models) == ("珈琲　ミル", "ja", None, {})
    assert config.document() == {"keyword": "珈琲　ミル", "language": "ja"}


def test_what_cannot_be_seen_around_a_keyword_is_stripped() -> None:
    for text in ("\ufeff珈琲　ミル", "\u200b 珈琲　ミル\u3000\u200b", "\u202a珈琲　ミル\u202c"):
        assert config_from_document({"keyword": text}).keyword == "珈琲　ミル"


def test_an_input_loses_its_byte_order_mark_and_a_blank_one_is_empty() -> None:
    config = config_from_document({"keyword": "a", "audience": "\ufeffbeginners\n", "tone": "\u200b\u3000", "x": [""]})
    inputs = {name: config.inputs[name] for name in ("audience", "tone", "x")}
    assert inputs == {"audience": "beginners\n", "tone": "", "x": [""]}


def test_further_keys_are_inputs_and_null_is_none() -> None:
    config = config_from_text(keyword(language="en", audience="beginners", tone=None, count=3, tags=["x"]))
    assert config.inputs == {
        "keyword": "a",
        "language": "en",
        "audience": "beginners",
        "count": 3,
        "tags": ["x"],
    }


def test_null_means_that_an_option_is_not_given() -> None:
    options = {"retry_budget_s": None, "budget_usd": None, "on_truncation": None}
    config = config_from_document({"keyword": "tea", **options})
    assert {name: getattr(config, name) for name in options} == options


def test_a_document_says_the_same_again() -> None:
    text = keyword(steps=["draft"], models={"draft": {"provider": "claude", "model_class": "pro"}}, audience="x")
    config = config_from_text(text)
    assert config_from_document(config.document()) == config
    assert isinstance(config, RunConfig)


def test_what_looks_like_a_nul_but_is_text_is_accepted() -> None:
    assert config_from_text(keyword(audience="\\u0000")).inputs["audience"] == "\\u0000"


NO_BUDGET = "budget_usd must be a number of US dollars above 0 and up to 1000000, with at most six decimal places, not"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", NOT_JSON + "Expecting value: line 1 column 1 (char 0)." + LOOKS_LIKE),
        ("keyword=a", NOT_JSON + "Expecting value: line 1 column 1 (char 0)." + LOOKS_LIKE),
        ('{"keyword": "a"', NOT_JSON + "Expecting ',' delimiter: line 1 column 16 (char 15)." + LOOKS_LIKE),
        (
            '{"keyword": "a", "keyword": "b"}',
            NOT_JSON + "the key 'keyword' appears more than once in one object." + LOOKS_LIKE,
        ),
        ('{"keyword": "a", "x": NaN}', NOT_JSON + "NaN is not a JSON number." + LOOKS_LIKE),
        ('{"keyword": "a", "x": 1' + "0" * 5000 + "}", NOT_JSON + "a number has more than 18 digits." + LOOKS_LIKE),
        ("[" * 20000, NOT_JSON + "it is nested too deeply." + LOOKS_LIKE),
        ("[]", "The run's configuration must be a JSON object, not []." + LOOKS_LIKE),
        ("null", "The run's configuration must be a JSON object, not None." + LOOKS_LIKE),
        ('"a"', "The run's configuration must be a JSON object, not 'a'." + LOOKS_LIKE),
        ("{}", REFUSED + "keyword is missing."),
        ('{"keyword": ""}', REFUSED + "keyword is empty."),
        ('{"keyword": " \\u3000 "}', REFUSED + "keyword is empty."),
        ('{"keyword": "\\u200b"}', REFUSED + "keyword is empty."),
        ('{"keyword": "\\ufeff \\u3164"}', REFUSED + "keyword is empty."),
        ('{"keyword": "a\\u202eb"}', REFUSED + "keyword contains a control character."),
        ('{"keyword": null}', REFUSED + "keyword must be a string, not None."),
        ('{"keyword": 5}', REFUSED + "keyword must be a string, not 5."),
        ('{"keyword": "a\\nb"}', REFUSED + "keyword contains a control character."),
        (json.dumps({"keyword": "x" * 201}), REFUSED + "keyword is longer than 200 characters."),
        (keyword(language="fr"), REFUSED + "language must be ja or en, not 'fr'."),
        (keyword(language=None), REFUSED + "language must be ja or en, not None."),
        (keyword(steps=[]), REFUSED + "steps is empty."),
        (keyword(steps="draft"), REFUSED + "steps must be a list, not 'draft'."),
        (keyword(steps=[1]), REFUSED + "steps[0] must be a string, not 1."),
        (keyword(steps=["draft", "draft"]), REFUSED + "steps lists 'draft' more than once."),
        (keyword(models=[]), REFUSED + "models must be an object, not []."),
        (keyword(models={"draft": 3}), REFUSED + "models.draft must be an object, not 3."),
        (keyword(models={"draft": {"modle": "x"}}), REFUSED + "models.draft.modle is not a known field."),
        (
            keyword(models={"draft": {}}),
            REFUSED + "models.draft needs at least one of provider, model_class and model.",
        ),
        (
            keyword(models={"draft": {"model": "x", "model_class": "pro"}}),
            REFUSED + "models.draft has both model and model_class.",
        ),
        *(
            (keyword(budget_usd=value), f"{REFUSED}{NO_BUDGET} {value!r}.")
            for value in (0, -1, 0.0000001, 1_000_001, True, "5")
        ),
        (keyword(Audience="x"), REFUSED + "'Audience' is not a valid input name " + NAMES),
        (keyword(**{"../x": "x"}), REFUSED + "'../x' is not a valid input name " + NAMES),
        ('{"keyword": "a\\u0000"}', "The run's configuration contains a NUL character."),
        ('{"keyword": "a", "x": "\\ud800"}', "The run's configuration contains a value that cannot be stored as JSON."),
        (keyword(x="y" * 65536), "The run's configuration is larger than 64 KiB."),
    ],
)
def test_a_wrong_configuration_is_one_sentence(text: str, sentence: str) -> None:
    with pytest.raises(InvalidRunConfig) as caught:
        config_from_text(text)
    assert str(caught.value) == sentence


def test_a_document_that_came_without_text_has_the_same_limit() -> None:
    with pytest.raises(InvalidRunConfig, match="larger than 64 KiB"):
        config_from_document({"keyword": "a", "x": "y" * 65536})
    with pytest.raises(InvalidRunConfig, match="contains a value that cannot be stored as JSON"):
        config_from_document({"keyword": object()})
