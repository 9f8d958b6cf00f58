"""The real Dagster UI in a real browser: it works for its operator, and pages of other sites change nothing."""

import contextlib
import http.server
import json
import os
import shutil
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import dagster as dg
import pytest

from recoflow.server import processes
from recoflow.server.dagster_ui import DagsterUi
from recoflow.storage.paths import DATA_VARIABLE, Paths
from recoflow_tests import scenario
from recoflow_tests.scenario import REPOSITORY

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

pytestmark = [pytest.mark.fault("C3"), pytest.mark.matrix]
in_browser = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: apt-get install chromium")


@dataclass
class Ui:
    url: str
    root: Path
    instance: dg.DagsterInstance
    run_id: str

    @property
    def deletion(self) -> str:
        """A mutation that is seen at once: the run is gone."""
        return f'mutation{{deletePipelineRun(runId:"{self.run_id}"){{__typename}}}}'

    def has_run(self) -> bool:
        return self.instance.get_run_by_id(self.run_id) is not None

    def status(self, method: str, path: str, headers: dict[str, str], body: bytes | None = None) -> int:
        request = urllib.request.Request(self.url + path, body, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=30) as reply:
                return reply.status
        except urllib.error.HTTPError as error:
            return error.code


@dg.op
def said_in_the_log(context: dg.OpExecutionContext) -> None:
    context.log.info("an answer over the web socket")


@dg.job
def shown_in_the_ui() -> None:
    said_in_the_log()


@pytest.fixture(scope="module")
def ui(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ui]:
    root = tmp_path_factory.mktemp("ui")
    for name in ("dagster.yaml", "workspace.yaml"):
        shutil.copy(REPOSITORY / name, root)
    layout = Paths(root / "data")
    layout.environments.mkdir(parents=True)
    scenario.write_environment(layout, "lorem")
    port = processes.free_port(0)
    server = processes.webserver(port, root / "logs")
    variables = {**os.environ, "DAGSTER_HOME": str(root), DATA_VARIABLE: str(layout.root)}
    with contextlib.chdir(root), processes.running([server], variables, root):
        processes.await_http(f"http://127.0.0.1:{port}/server_info", [server], 120)
        with dg.DagsterInstance.from_config(str(root)) as instance:
            run = shown_in_the_ui.execute_in_process(instance=instance)
            yield Ui(f"http://127.0.0.1:{port}", root, instance, run.run_id)


def browse(url: str, folder: Path) -> str:
    """The page's elements after its scripts have run for a while."""
    command = [
        str(CHROMIUM),
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        f"--user-data-dir={folder}",
        "--window-size=1600,1200",
        "--timeout=20000",
        "--virtual-time-budget=20000",
        "--dump-dom",
        url,
    ]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout


@contextlib.contextmanager
def page_of_another_origin(text: str) -> Iterator[str]:
    """A web server with one page; yields its address."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/"
        server.shutdown()


def attack(ui: Ui) -> str:
    """A page that tries to delete the run in every way that a page has."""
    address = f"{ui.url}/graphql?query={quote(ui.deletion)}"
    socket = ui.url.replace("http", "ws")
    # Twice: JSON as a literal of JavaScript.
    body = json.dumps(json.dumps({"query": ui.deletion}))
    start = json.dumps(json.dumps({"type": "start", "id": "1", "payload": {"query": ui.deletion}}))
    return f"""
<img src='{address}'><iframe src='{address}'></iframe><script src='{address}'></script>
<p id=done>begun</p>
<script>
const asks = [
  fetch('{address}', {{method: 'POST', mode: 'no-cors'}}),
  fetch('{ui.url}/graphql', {{method: 'POST', mode: 'no-cors', body: {body},
    headers: {{'Content-Type': 'text/plain; application/json'}}}}),
  fetch('{ui.url}/graphql', {{method: 'POST', mode: 'cors', body: {body},
    headers: {{'Content-Type': 'application/json'}}}}),
  new Promise((resolve) => {{
    const socket = new WebSocket('{socket}/graphql', 'graphql-ws');
    socket.onopen = () => {{ socket.send('{{"type":"connection_init"}}'); socket.send({start}); }};
    socket.onerror = resolve; socket.onmessage = resolve;
  }}),
];
Promise.allSettled(asks).then(() => {{ document.getElementById('done').textContent = 'all was tried'; }});
</script>
"""


@in_browser
def test_a_page_of_another_origin_changes_nothing(ui: Ui, tmp_path: Path) -> None:
    with page_of_another_origin(attack(ui)) as evil:
        assert "all was tried" in browse(evil, tmp_path)
    assert ui.has_run()


@in_browser
def test_the_pages_of_the_ui_show_runs_and_their_logs(ui: Ui, tmp_path: Path) -> None:
    assert "shown_in_the_ui" in browse(f"{ui.url}/runs", tmp_path)
    assert "an answer over the web socket" in browse(f"{ui.url}/runs/{ui.run_id}", tmp_path)
    assert "interactions" in browse(f"{ui.url}/asset-groups", tmp_path)


def test_programs_ask_as_json_and_nothing_else_executes(ui: Ui) -> None:
    query = f"/graphql?query={quote(ui.deletion)}"
    assert ui.status("GET", query, {}) == 200  # the playground
    assert ui.status("GET", query, {"Accept": "application/json"}) == 200
    assert ui.status("POST", query, {"Content-Type": "text/plain"}, b"x") == 415
    assert ui.status("POST", "/graphql", {"Content-Type": "application/graphql"}, ui.deletion.encode()) == 415
    assert ui.status("GET", "/server_info", {"Host": "evil.example"}) == 421
    assert ui.status("POST", "/report_asset_materialization/lorem/events", {"Content-Type": "application/json"}) == 405
    assert ui.has_run()
    assert [run.run_id for run in DagsterUi(ui.url).runs("shown_in_the_ui")] == [ui.run_id]


@in_browser
def test_the_same_page_deletes_the_run_where_dagster_serves_by_itself(ui: Ui, tmp_path: Path) -> None:
    """When this fails, Dagster has mended it, and `ui_guard` may need less."""
    port = processes.free_port(0)
    tool = str(Path(sys.executable).parent / "dagster-webserver")
    command = (tool, "-w", "workspace.yaml", "-h", "127.0.0.1", "-p", str(port))
    bare = processes.ManagedProcess("bare", command, ui.root / "logs/bare.log")
    variables = {**os.environ, "DAGSTER_HOME": str(ui.root), DATA_VARIABLE: str(ui.root / "data")}
    with processes.running([bare], variables, ui.root):
        processes.await_http(f"http://127.0.0.1:{port}/server_info", [bare], 120)
        run = shown_in_the_ui.execute_in_process(instance=ui.instance)
        unguarded = Ui(f"http://127.0.0.1:{port}", ui.root, ui.instance, run.run_id)
        with page_of_another_origin(attack(unguarded)) as evil:
            assert "all was tried" in browse(evil, tmp_path)
        assert not unguarded.has_run()
