"""Fetching weights from a server on loopback: whole, resumed, damaged, absent."""

import hashlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from pnpkit.errors import WeightsError
from pnpkit.priors.download import cache_folder, download

BODY = bytes(range(256)) * 4096 * 3  # 3 MiB
DIGEST = hashlib.sha256(BODY).hexdigest()


class Server(BaseHTTPRequestHandler):
    """Serves BODY; "/breaks" drops the connection half-way, "/deaf" ignores ranges, "/silent" tells no length."""

    asked: list[str | None] = []

    def do_GET(self):
        begins = self.headers.get("Range")
        Server.asked.append(begins)
        if self.path == "/absent":
            self.send_error(404)
            return
        first = int(begins.removeprefix("bytes=").rstrip("-")) if begins and self.path != "/deaf" else 0
        if first >= len(BODY):
            self.send_error(416)
            return
        self.send_response(206 if first else 200)
        if self.path != "/silent":
            self.send_header("Content-Length", str(len(BODY) - first))
        self.end_headers()
        breaks = self.path == "/breaks" and not first
        self.wfile.write(BODY[first : len(BODY) // 2] if breaks else BODY[first:])

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def url():
    with ThreadingHTTPServer(("127.0.0.1", 0), Server) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@pytest.mark.parametrize("way", ["/plain", "/silent", "/deaf"])
def test_whole(url, way, tmp_path):
    seen = []
    path = download(url + way, tmp_path / "deep" / "w.bin", DIGEST, lambda done, whole: seen.append((done, whole)))
    assert path.read_bytes() == BODY and seen[-1] == (len(BODY), None if way == "/silent" else len(BODY))
    before = len(Server.asked)
    download(url + way, path, DIGEST)
    assert len(Server.asked) == before, "it was there already"


def test_a_broken_connection_is_resumed(url, tmp_path):
    target = tmp_path / "w.bin"
    with pytest.raises(WeightsError, match=r"cannot be fetched: .*broke off.*w\.bin\.part.*put it to"):
        download(url + "/breaks", target, DIGEST)
    half = (tmp_path / "w.bin.part").stat().st_size
    assert 0 < half < len(BODY) and not target.exists()
    Server.asked.clear()
    assert download(url + "/breaks", target, DIGEST).read_bytes() == BODY
    assert Server.asked == [f"bytes={half}-"] and not (tmp_path / "w.bin.part").exists()


def test_resuming_at_the_end_and_where_the_server_cannot(url, tmp_path):
    (tmp_path / "a.bin.part").write_bytes(BODY)
    assert download(url + "/plain", tmp_path / "a.bin", DIGEST).read_bytes() == BODY
    (tmp_path / "b.bin.part").write_bytes(BODY[:1000])
    assert download(url + "/deaf", tmp_path / "b.bin", DIGEST).read_bytes() == BODY


def test_another_file_is_refused_and_deleted(url, tmp_path):
    with pytest.raises(WeightsError, match=r"has sha256 .*expected 0000"):
        download(url + "/plain", tmp_path / "w.bin", "0" * 64)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("where", ["/absent", None])
def test_nothing_there(url, where, tmp_path):
    address = url + where if where else "http://127.0.0.1:9/w.bin"
    with pytest.raises(WeightsError, match=rf"{address} cannot be fetched.*put it to .*w\.bin"):
        download(address, tmp_path / "w.bin", DIGEST)


def test_a_card_with_an_address_is_fetched_once(url, tmp_path, monkeypatch):
    from pnpkit import registry
    from pnpkit.priors import weights

    monkeypatch.setenv("PNPKIT_WEIGHTS", str(tmp_path))
    assert cache_folder() == tmp_path
    card = {"file": "/nowhere/far.safetensors", "url": url + "/plain", "sha256": DIGEST}
    monkeypatch.setattr(registry, "card", lambda name: card)
    monkeypatch.setattr(registry, "names", lambda kind: ["far"])
    assert weights.find("far") == tmp_path / "far.safetensors"
    Server.asked.clear()
    assert weights.find("far").read_bytes() == BODY and Server.asked == []
