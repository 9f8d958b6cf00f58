"""An environment's file is read, or refused with file, line, key and cure."""

from pathlib import Path

import pytest

from recoflow import schema
from recoflow.errors import ConfigurationError
from recoflow.settings import environment
from recoflow.settings.list_configuration import Configuration

SAMPLE = Path(__file__).parents[2] / "data/environments/lorem.yaml"


def written(folder: Path, old: str = "", new: str = "", name: str = "lorem") -> Path:
    text = SAMPLE.read_text()
    assert old in text
    path = folder / f"{name}.yaml"
    path.write_text(text.replace(old, new, 1))
    return path


def line_of(path: Path, text: str) -> int:
    return next(number for number, line in enumerate(path.read_text().splitlines(), 1) if text in line)


def test_the_sample_file_loads_and_never_changes() -> None:
    found = environment.load_environment(SAMPLE)
    assert found.name == "lorem"
    assert found.default_item_type == "article"
    assert set(schema.CHANNELS) <= found.channels
    with pytest.raises(ValueError, match="frozen"):
        found.name = "other"


@pytest.mark.parametrize(
    ("old", "new", "key", "cure"),
    [
        ("half_life_days:", "half_life_dayz:", "events.half_life_dayz", "Did you mean 'half_life_days'?"),
        ("half_life_days: 30", "half_life_days: -1", "events.half_life_days", "greater than 0"),
        ("    purchase: 5", "    purchas: 5", "events.weights", "did you mean purchase?"),
        ("port: 2222", "port: first", "sftp.port", "valid integer"),
        ("algorithm: als", "algorithm: alz", "training.models.als.algorithm", "'als'"),
        ('training: "0 3 * * *"', 'training: "at three"', "schedules.training", "five fields"),
        ('training: "0 3 * * *"', 'training: "0 30 * * *"', "schedules.training", "30 is not from 0 to 23"),
        ("information_fields: [url]", "information_fields: [item_id]", "campaigns.information_fields", "two columns"),
        ("k: 10", "k: 0", "training.k", "greater than or equal to 1"),
        (
            "discover: { max_age_days: 60 }",
            "discover: { algorithm: bpm }",
            "campaigns.configurations.discover.algorithm",
            "did you mean bpr? (found: 'bpm')",
        ),
    ],
)
def test_a_wrong_value_is_named_with_file_line_key_and_cure(
    tmp_path: Path, old: str, new: str, key: str, cure: str
) -> None:
    path = written(tmp_path, old, new)
    with pytest.raises(ConfigurationError) as caught:
        environment.load_environment(path)
    message = str(caught.value)
    assert message.startswith(f"{path}:")
    assert f": {key}: " in message
    assert cure in message
    if key != "events.weights":
        assert message.startswith(f"{path}:{line_of(path, new.strip())}:")


CAMPAIGNS = """    discover: { max_age_days: 60 }
  experiments:
    subject: { lists: [a, b], arms: { plain: { weight: 1 }, bold: { weight: 1, configuration: discover } } }
    ranker: { lists: [c], arms: { by_bpr: { weight: 9, model: bpr }, as_ever: { weight: 1, model: champion } } }
  scheduled:
    weekly:
      cron: "0 6 * * 1"
      active_days: 28
      lists: [{ list_name: a, list_size: 5, page_type: email }, { list_name: b, list_size: 5, page_type: email }]
"""
EXPERIMENTS = "campaigns.experiments"


def test_experiments_and_scheduled_campaigns_are_read(tmp_path: Path) -> None:
    campaigns = environment.load_environment(
        written(tmp_path, "    discover: { max_age_days: 60 }\n", CAMPAIGNS)
    ).campaigns
    assert list(campaigns.experiments["ranker"].arms) == ["by_bpr", "as_ever"]
    assert campaigns.scheduled["weekly"].lists[1].list_name == "b"


@pytest.mark.parametrize(
    ("old", "new", "key", "problem"),
    [
        ("{ weight: 9,", "{ weight: 0,", f"{EXPERIMENTS}.ranker.arms.by_bpr.weight", "greater than 0"),
        ("{ weight: 9,", "{ weight: .inf,", f"{EXPERIMENTS}.ranker.arms.by_bpr.weight", "finite"),
        (
            "as_ever: { weight",
            "bold: {  weight",
            f"{EXPERIMENTS}.ranker.arms.bold",
            "is the version of an arm of subject too",
        ),
        ("plain:", "recoflow_1:", f"{EXPERIMENTS}.subject.arms.recoflow_1", "is the version of campaigns.version too"),
        ("lists: [c]", "lists: [c, b]", f"{EXPERIMENTS}.ranker.lists.1", "is a list of subject already"),
        ("lists: [a, b], arms", "arms", f"{EXPERIMENTS}.subject", "takes part in all lists"),
        ("model: bpr", "model: bpt", f"{EXPERIMENTS}.ranker.arms.by_bpr.model", "(there: als, bpr) (found: 'bpt')"),
        ("configuration: discover", "configuration: dis", f"{EXPERIMENTS}.subject.arms.bold.configuration", "'dis'"),
        ("model: champion", "model: als, configuration: discover", f"{EXPERIMENTS}.ranker.arms.as_ever", "has both"),
        ("plain: { weight: 1 }", "plain: { wait: 1 }", f"{EXPERIMENTS}.subject.arms.plain.weight", "is missing"),
        ("cron: ", "corn: ", "campaigns.scheduled.weekly.cron", "is missing"),
        ("  weekly:", "  Weekly:", "campaigns.scheduled.Weekly", "'Weekly' must be lower case"),
        ("{ list_name: b,", "{ list_name: a,", "campaigns.scheduled.weekly.lists.1.list_name", "stands twice"),
        ("list_size: 5", "list_size: 1001", "campaigns.scheduled.weekly.lists.0.list_size", "max_list_size, 1000"),
        ("page_type: email", "page_type: ''", "campaigns.scheduled.weekly.lists.0.page_type", "at least 1"),
        (
            "list_name: a, list_size",
            "configuration_id: x, list_name: a, list_size",
            "campaigns.scheduled.weekly.lists.0.configuration_id",
            "is not in campaigns.configurations (there: varied, discover)",
        ),
    ],
)
def test_what_is_wrong_with_an_experiment_or_a_scheduled_campaign_is_named(
    tmp_path: Path, old: str, new: str, key: str, problem: str
) -> None:
    assert old in CAMPAIGNS
    path = written(tmp_path, "    discover: { max_age_days: 60 }\n", CAMPAIGNS.replace(old, new, 1))
    with pytest.raises(ConfigurationError) as caught:
        environment.load_environment(path)
    assert f": {key}: " in str(caught.value)
    assert problem in str(caught.value)
    if "is missing" not in problem:
        assert str(caught.value).startswith(f"{path}:{line_of(path, new)}:")


def test_what_the_sample_shows_in_comments_is_sound(tmp_path: Path) -> None:
    text = SAMPLE.read_text()
    comment = text[text.index("  # experiments:") :].split("\n\n")[0]
    shown = environment.load_environment(written(tmp_path, comment, comment.replace("  # ", "  ")))
    assert list(shown.campaigns.experiments["age"].arms) == ["all", "recent"]
    assert [each.list_size for each in shown.campaigns.scheduled["weekly"].lists] == [5]


def test_a_missing_key_is_named_with_the_line_of_its_section(tmp_path: Path) -> None:
    path = written(tmp_path, "  username: lorem\n", "")
    with pytest.raises(ConfigurationError, match=r"sftp\.username: is missing\. Add 'username'") as caught:
        environment.load_environment(path)
    assert str(caught.value).startswith(f"{path}:{line_of(path, 'sftp:')}:")


def test_a_key_that_stands_twice_is_an_error(tmp_path: Path) -> None:
    path = written(tmp_path, "  port: 2222\n", "  port: 2222\n  port: 2223\n")
    with pytest.raises(ConfigurationError, match=r"sftp\.port: stands twice"):
        environment.load_environment(path)


def test_text_that_is_not_yaml_is_an_error_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "lorem.yaml"
    path.write_text("name: [lorem\n")
    with pytest.raises(ConfigurationError, match=r"lorem\.yaml:2: is not YAML"):
        environment.load_environment(path)


@pytest.mark.parametrize("text", ["", "- a\n", "just text\n"])
def test_a_file_that_is_no_mapping_is_an_error(tmp_path: Path, text: str) -> None:
    path = tmp_path / "lorem.yaml"
    path.write_text(text)
    with pytest.raises(ConfigurationError, match="is not a mapping"):
        environment.load_environment(path)


def test_the_name_must_be_that_of_the_file(tmp_path: Path) -> None:
    path = written(tmp_path, name="ipsum")
    with pytest.raises(ConfigurationError, match="is 'lorem' in a file named ipsum"):
        environment.load_environment(path)


def test_a_missing_file_says_what_to_copy(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="does not exist"):
        environment.load_environment(tmp_path / "lorem.yaml")


def test_two_environments_may_not_share_an_sftp_account(tmp_path: Path) -> None:
    written(tmp_path)
    written(tmp_path, "name: lorem\n", "name: ipsum\n", name="ipsum")
    with pytest.raises(ConfigurationError, match="is the account of"):
        environment.load_all(tmp_path)


def test_a_folder_without_environments_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="has no environment"):
        environment.load_all(tmp_path)


QUERY = {"key": "premium", "match": {"value": True}}


@pytest.mark.parametrize(
    ("settings", "cure"),
    [
        ({"constraints": [{"query": {"key": "premium"}, "limit": {"max": 1}}]}, "needs one of `match` and `contains`"),
        ({"constraints": [{"query": QUERY | {"contains": {"value": 1}}, "limit": {"max": 1}}]}, "needs one of `match`"),
        ({"constraints": [{"query": QUERY, "limit": {}}]}, "needs a `min` above 0"),
        ({"constraints": [{"query": QUERY, "limit": {"min": 3, "max": 2}}]}, "at least 3 and at most 2"),
        ({"constraints": [{"query": QUERY, "limit": {"max": -1}}]}, "greater than or equal to 0"),
        ({"boosts": [{"query": QUERY, "factor": 0.5}]}, "greater than or equal to 1"),
        ({"diversity": 1.5}, "less than or equal to 1"),
    ],
)
def test_a_configuration_that_means_nothing_is_refused(settings: dict[str, object], cure: str) -> None:
    with pytest.raises(ValueError, match=cure):
        Configuration.model_validate(settings)


def test_a_configuration_is_the_same_after_a_journey_as_json() -> None:
    negated = {"key": "tags", "contains": {"value": "ad", "not": True}}
    limits = [{"query": negated, "limit": {"min": 2}}, {"query": QUERY, "limit": {"min": 1, "max": 3}}]
    found = Configuration.model_validate({"constraints": limits, "buries": [{"query": QUERY, "factor": 2}]})
    assert found.constraints[0].query.comparison.is_negated
    assert [query.key for query in found.queries] == ["tags", "premium", "premium"]
    assert '"not":true' in found.model_dump_json()
    assert Configuration.model_validate_json(found.model_dump_json()) == found
