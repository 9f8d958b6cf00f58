from __future__ import annotations

import threading

import pytest

from recoflow.campaigns.publishing import list_gate, response_files
from recoflow.errors import AuditError

REQUEST = """environment,user_id,device_id,list_name,list_size,page_type
lorem,sport,,Top,2,home
lorem,stranger,,Top,0,home
"""


@pytest.fixture
def result(reply, newsroom):
    return reply(REQUEST, newsroom)


def content(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_what_the_audit_refuses_is_nowhere_to_be_seen(result, newsroom, tmp_path):
    folder = tmp_path / "campaign"
    folder.mkdir()
    with pytest.raises(AuditError, match="model_sound"):
        response_files.render_files(
            result,
            folder,
            lambda: list_gate.audit_lists(result, newsroom.with_scorer(newsroom.scorer, {}, version="v2")),
        )
    assert content(folder) == {}
    assert not response_files.is_rendered(folder)


def test_a_refusal_leaves_what_was_published_before(result, newsroom, tmp_path):
    def refuse():
        raise AuditError("this campaign", "is refused", "Do it again")

    folder = tmp_path / "campaign"
    response_files.render_files(result, folder, lambda: list_gate.audit_lists(result, newsroom))
    before = content(folder)
    with pytest.raises(AuditError, match="is refused"):
        response_files.render_files(result, folder, refuse)
    assert content(folder) == before


def test_a_file_that_cannot_be_rendered_is_refused_by_the_audit(result, newsroom, tmp_path):
    result.parts[0].write_bytes(b"no Parquet")
    with pytest.raises(AuditError, match=r"files_unchanged.*part-00000"):
        response_files.render_files(result, tmp_path / "campaign", lambda: list_gate.audit_lists(result, newsroom))


def test_a_response_that_is_written_waits_for_its_audit(result, tmp_path):
    folder, is_audited = tmp_path / "campaign", threading.Event()
    writer = threading.Thread(target=response_files.render_files, args=(result, folder, is_audited.wait))
    writer.start()
    writer.join(0.2)
    assert not (folder / "response").exists()
    is_audited.set()
    writer.join()
    assert {"response", response_files.MANIFEST} <= content(folder).keys()
