"""An environment's file is read, or refused with file, line, key and cure."""

from pathlib import Path

import pytest

from recoflow import environment, schema
from recoflow.errors import ConfigurationError

SAMPLE = Path(__file__).parents[1] / "data/environments/lorem.yaml"


def written(folder: Path, old: str = "", new: str = "", name: str = "lorem") -> Path:
    text = SAMPLE.read_text()
    assert old in text
    path = folder / f"{name}.yaml"
    path.write_text(text.replace(old, new, 1))
    return path


def line_of(path: Path, text: str) -> int:
    return next(number for number, line in enumerate(path.read_text().splitlines(), 1) if text in line)


def test_the_sample_file_loads_and_never_changes() -> None:
    found = environment.load(SAMPLE)
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
        ("information_fields: [url]", "information_fields: [item_id]", "campaigns.information_fields", "two columns"),
        ("k: 10", "k: 0", "training.k", "greater than or equal to 1"),
    ],
)
def test_a_wrong_value_is_named_with_file_line_key_and_cure(
    tmp_path: Path, old: str, new: str, key: str, cure: str
) -> None:
    path = written(tmp_path, old, new)
    with pytest.raises(ConfigurationError) as caught:
        environment.load(path)
    message = str(caught.value)
    assert message.startswith(f"{path}:")
    assert f": {key}: " in message
    assert cure in message
    if key != "events.weights":
        assert message.startswith(f"{path}:{line_of(path, new.strip())}:")


def test_a_missing_key_is_named_with_the_line_of_its_section(tmp_path: Path) -> None:
    path = written(tmp_path, "  username: lorem\n", "")
    with pytest.raises(ConfigurationError, match=r"sftp\.username: is missing\. Add 'username'") as caught:
        environment.load(path)
    assert str(caught.value).startswith(f"{path}:{line_of(path, 'sftp:')}:")


def test_a_key_that_stands_twice_is_an_error(tmp_path: Path) -> None:
    path = written(tmp_path, "  port: 2222\n", "  port: 2222\n  port: 2223\n")
    with pytest.raises(ConfigurationError, match=r"sftp\.port: stands twice"):
        environment.load(path)


def test_text_that_is_not_yaml_is_an_error_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "lorem.yaml"
    path.write_text("name: [lorem\n")
    with pytest.raises(ConfigurationError, match=r"lorem\.yaml:2: is not YAML"):
        environment.load(path)


@pytest.mark.parametrize("text", ["", "- a\n", "just text\n"])
def test_a_file_that_is_no_mapping_is_an_error(tmp_path: Path, text: str) -> None:
    path = tmp_path / "lorem.yaml"
    path.write_text(text)
    with pytest.raises(ConfigurationError, match="is not a mapping"):
        environment.load(path)


def test_the_name_must_be_that_of_the_file(tmp_path: Path) -> None:
    path = written(tmp_path, name="ipsum")
    with pytest.raises(ConfigurationError, match="is 'lorem' in a file named ipsum"):
        environment.load(path)


def test_a_missing_file_says_what_to_copy(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="does not exist"):
        environment.load(tmp_path / "lorem.yaml")


def test_two_environments_may_not_share_an_sftp_account(tmp_path: Path) -> None:
    written(tmp_path)
    written(tmp_path, "name: lorem\n", "name: ipsum\n", name="ipsum")
    with pytest.raises(ConfigurationError, match="is the account of"):
        environment.load_all(tmp_path)


def test_a_folder_without_environments_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="has no environment"):
        environment.load_all(tmp_path)
