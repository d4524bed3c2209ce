"""The report over HTTP: to this machine alone, and new where the metrics are."""

import threading
import urllib.error
import urllib.request

import pytest

from launch import serve
from launch.report import main
from launch.run_folder import RunFolder, RunFolderError
from launch.serve import make_server

STEP = {"step": 1, "reward/accuracy": 0.5, "entropy/token_mean": 0.75}


@pytest.fixture
def served(tmp_path):
    folder = RunFolder(tmp_path / "run")
    folder.append_metrics({"step": 0, "eval/heldout/avg_at_k": 0.25, "eval/heldout/k": 4})
    with make_server(folder.path, 0) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield folder, f"http://127.0.0.1:{server.server_address[1]}/"
        server.shutdown()
        thread.join(10)


def get(url: str, **headers) -> str:
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=60) as answer:
        assert answer.headers["Cache-Control"] == "no-store"
        return answer.read().decode()


def test_the_page_follows_the_run_and_writes_nothing(served):
    folder, url = served
    before = get(url)
    assert '<meta http-equiv="refresh"' in before
    assert "it has recorded 0 steps" in before
    folder.append_metrics(STEP)
    assert "it has recorded 1 step." in get(url)
    assert not (folder.path / "report.html").exists()


def test_the_page_is_drawn_again_only_where_the_run_has_got_further(served, monkeypatch):
    folder, url = served
    drawn = []
    monkeypatch.setattr(serve, "render", lambda path: drawn.append(path) or f'<meta charset="utf-8">{len(drawn)}')
    assert get(url).endswith("1")
    assert get(url).endswith("1")
    folder.append_metrics(STEP)
    assert get(url).endswith("2")
    assert f'content="{serve.REFRESH_S}"' in get(url)


@pytest.mark.parametrize(
    ("path", "host", "status"), [("", "evil.example", 403), ("../config.yaml", "localhost", 404), ("x", None, 404)]
)
def test_nothing_else_is_served_and_to_nobody_else(served, path, host, status):
    with pytest.raises(urllib.error.HTTPError) as refused:
        get(served[1] + path, **({"Host": host} if host else {}))
    assert refused.value.code == status


def test_what_cannot_be_served_is_refused_in_a_sentence(served, tmp_path, capsys):
    with pytest.raises(RunFolderError, match=r"holds no metrics\.jsonl"):
        make_server(tmp_path, 0)
    assert main([str(served[0].path), "--serve", "--port", served[1].rsplit(":", 1)[1].strip("/")]) == 2
    assert "Address already in use" in capsys.readouterr().err
