"""A person's word on which model serves holds against the training."""

import dagster as dg

from recoflow.models.store import version_summaries, versions
from recoflow_tests.scenario import Scenario, failed_checks, materializations


def test_a_pinned_champion_stays_while_trainings_go_on_and_say_so(trained: Scenario) -> None:
    folder = trained.layout.models("lorem")
    pinned = versions.pin_version(folder).version
    result = trained.run("lorem_training")
    assert result.success
    candidate = version_summaries.known_versions(folder)[-1]
    assert candidate > pinned == versions.champion_version(folder)
    assert failed_checks(result) == {"candidate_serves"}
    (check,) = [each for each in result.get_asset_check_evaluations() if each.check_name == "candidate_serves"]
    assert check.severity == dg.AssetCheckSeverity.WARN
    assert check.metadata["waiting_version"].value == candidate
    shown = materializations(result)["champion"]
    assert (shown["model_version"], shown["is_pinned"]) == (pinned, True)

    assert "data:image/svg+xml;base64," in shown["versions"]
    trained_today = materializations(result)["factors"]
    assert "data:image/svg+xml;base64," in trained_today["quality"]
    for model in ("als", "popular"):
        for metric in ("ndcg", "recall", "coverage"):
            assert 0 < trained_today[f"{model}.{metric}_at_10"] <= 1

    versions.unpin(folder)
    result = trained.run("lorem_training", asset_selection=[dg.AssetKey(["lorem", "champion"])])
    assert versions.serving_state(folder) == versions.ServingState(candidate, (pinned,))
    assert failed_checks(result) == set()
