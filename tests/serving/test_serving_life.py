"""A server under load, with versions that come and go, until it is stopped."""

from __future__ import annotations

import os
import re
import shutil
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from kerasft.errors import UserError

pytestmark = pytest.mark.enable_socket


def one(server, x: float, text: str = "a"):
    return server.ask(":predict", {"instances": [{"x": x, "s": text}]})


def memory() -> int:
    """Return the bytes that this process holds now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.slow
def test_under_load_each_gets_its_own_answer(serve, toy, monkeypatch):
    from kerasft.serving import bundle

    sizes = []
    run = bundle.Bundle.run

    def counted(self, name, inputs, wanted=()):
        sizes.append(len(next(iter(inputs.values()))))
        return run(self, name, inputs, wanted)

    monkeypatch.setattr(bundle.Bundle, "run", counted)
    with serve(toy, batch=16, wait_ms=3.0) as server:

        def ask(i: int):
            if i % 50 == 7:  # one that fails, in the midst of others
                return i, one(server, -1.0, str(i))
            return i, one(server, float(i), str(i))

        with ThreadPoolExecutor(16) as clients:
            list(clients.map(ask, range(200)))
            before = memory()
            answers = list(clients.map(ask, range(1200)))
            after = memory()
    for i, (code, found) in answers:
        if i % 50 == 7:
            assert code == 400, found
        else:
            assert (code, found) == (200, {"predictions": [{"y": float(i), "echo": str(i)}]})
    assert max(sizes) > 1, "nothing was batched"
    assert len(sizes) < 1400
    assert after - before < 50e6, f"{(after - before) / 1e6:.0f} MB more after 1,200 requests"


@pytest.mark.slow
def test_what_comes_when_too_many_wait_is_turned_away(serve, toy):
    with serve(toy, waiting=4, wait_ms=1.0) as server, ThreadPoolExecutor(12) as clients:
        slow = {"signature_name": "slow", "instances": [1.0]}
        codes = [code for code, _ in clients.map(lambda _: server.ask(":predict", slow), range(12))]
        assert set(codes) == {200, 503}
        assert one(server, 1.0)[0] == 200


def test_versions_change_without_a_request_lost(serve, write_toy, tmp_path):
    root = tmp_path / "models"
    write_toy(root / "1", plus=100.0)
    write_toy(tmp_path / "2", plus=200.0)
    with serve(root) as server:
        found, stop = [], threading.Event()

        def keep_asking():
            while not stop.is_set():
                code, answer = one(server, 1.0)
                found.append((code, answer["predictions"][0]["y"] if code == 200 else answer))

        clients = [threading.Thread(target=keep_asking) for _ in range(4)]
        for client in clients:
            client.start()
        (tmp_path / "2").rename(root / "2")
        server.until(lambda: (200, 201.0) in found)
        server.until(lambda: server.ask("/versions/1")[1]["model_version_status"][0]["state"]
                     == "END")  # fmt: skip
        stop.set()
        for client in clients:
            client.join()
        assert set(found) == {(200, 101.0), (200, 201.0)}
        assert server.ask("/versions/1:predict", {"instances": [1]})[0] == 404
        # A version that does not load is told, and the older one goes on.
        (root / "3").mkdir()
        (root / "3" / "saved_model.pb").write_bytes(b"broken")
        server.until(lambda: 3 in server.server.model.states
                     and server.server.model.states[3].problem)  # fmt: skip
        assert one(server, 1.0)[1]["predictions"][0]["y"] == 201.0
        _, told = server.ask("/versions/3")
        (three,) = told["model_version_status"]
        assert three["state"] == "END"
        assert three["status"]["error_message"]
        # A newest version that is taken away gives its place back.
        write_toy(tmp_path / "4", plus=400.0)
        (tmp_path / "4").rename(root / "4")
        server.until(lambda: one(server, 1.0)[1]["predictions"][0]["y"] == 401.0)
        shutil.rmtree(root / "4")
        server.until(lambda: one(server, 1.0)[1]["predictions"][0]["y"] == 201.0)


def test_what_is_no_version_does_not_keep_newer_ones_away(serve, write_toy, tmp_path):
    root = tmp_path / "models"
    write_toy(root / "1", plus=100.0)
    for name in ("²", "٣", "07", "+8", "1_0", "9" * 30, "-5"):
        (root / name).mkdir()
    (root / "50").symlink_to(tmp_path / "nowhere")
    (root / "51").symlink_to(root / "51")
    (root / "52").write_text("a file")
    (root / "60").mkdir()
    os.mkfifo(root / "60" / "saved_model.pb")
    for name, to in (("dangling", tmp_path / "nowhere"), ("everything", "/")):
        (root / "1" / name).symlink_to(to)
    write_toy(tmp_path / "2", plus=200.0)
    (tmp_path / "2" / "dangling").symlink_to(tmp_path / "nowhere")
    with serve(root) as server:
        assert one(server, 1.0)[1]["predictions"][0]["y"] == 101.0
        (tmp_path / "2").rename(root / "2")
        server.until(lambda: one(server, 1.0)[1]["predictions"][0]["y"] == 201.0)
        told = {v["version"]: v["status"]["error_message"]
                for v in server.ask("")[1]["model_version_status"]}  # fmt: skip
        assert told["60"] == "saved_model.pb is no file"
        assert set(told) == {"1", "2", "60"}


def test_a_pipe_in_a_version_does_not_keep_newer_ones_away(serve, write_toy, tmp_path):
    root = tmp_path / "models"
    write_toy(root / "1", plus=100.0)
    for number, name in ((2, "variables/variables.index"), (3, "assets.extra/more/pipe"),
                         (4, "fingerprint.pb")):  # fmt: skip
        shutil.copytree(root / "1", tmp_path / str(number))
        pipe = tmp_path / str(number) / name
        pipe.parent.mkdir(exist_ok=True)
        pipe.unlink(missing_ok=True)
        os.mkfifo(pipe)
    # A folder that is opened in any case may be a link.
    shutil.copytree(root / "1", tmp_path / "5")
    (tmp_path / "5" / "variables").rename(tmp_path / "elsewhere")
    (tmp_path / "5" / "variables").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "variables.data-00000-of-00001").unlink()
    (tmp_path / "elsewhere" / "variables.data-00000-of-00001").symlink_to("/dev/zero")
    write_toy(tmp_path / "6", plus=600.0)
    with serve(root) as server:
        for number in (2, 3, 4, 5):
            (tmp_path / str(number)).rename(root / str(number))
        server.until(lambda: all(server.server.model.states.get(number) is not None
                     and server.server.model.states[number].problem.endswith("is no file")
                     for number in (2, 3, 4, 5)))  # fmt: skip
        assert one(server, 1.0)[1]["predictions"][0]["y"] == 101.0
        (tmp_path / "6").rename(root / "6")
        server.until(lambda: one(server, 1.0)[1]["predictions"][0]["y"] == 601.0)


@pytest.fixture
def hanging(monkeypatch):
    """Loading version 2 takes until the test ends."""
    from kerasft.serving import models

    end, load = threading.Event(), models.Bundle

    def hang(path, number, threads=None):
        if number == 2:
            end.wait(60)
        return load(path, number, threads)

    monkeypatch.setattr(models, "Bundle", hang)
    yield
    end.set()


def test_a_version_that_never_loads_keeps_nothing_away(serve, write_toy, tmp_path, hanging):
    write_toy(tmp_path / "models" / "1", plus=100.0)
    write_toy(tmp_path / "3", plus=300.0)
    with serve(tmp_path / "models") as server:
        shutil.copytree(tmp_path / "3", tmp_path / "models" / "2")
        server.until(lambda: 2 in server.server.model.states)
        assert one(server, 1.0)[1]["predictions"][0]["y"] == 101.0
        (tmp_path / "3").rename(tmp_path / "models" / "3")
        server.until(lambda: one(server, 1.0)[1]["predictions"][0]["y"] == 301.0)
        states = server.server.model.states
        server.until(lambda: states[1].state == "END")
        assert states[2].state == "LOADING"
        began = time.monotonic()
    assert time.monotonic() - began < 10


def test_a_server_stops_while_its_first_version_is_loaded(write_toy, tmp_path, hanging):
    import asyncio

    from kerasft.serving.server import Server, Settings

    write_toy(tmp_path / "2")

    async def stopped() -> bool:
        server = Server(Settings(str(tmp_path), rest_port=0, grpc_port=0), tmp_path)
        asyncio.get_running_loop().call_later(0.5, server.stopping.set)
        await server.run()
        return server.ready.is_set()

    began = time.monotonic()
    assert not asyncio.run(stopped())
    assert time.monotonic() - began < 10


def test_a_request_that_never_ends_does_not_keep_the_server_from_stopping(
    serve, toy, monkeypatch
):
    from kerasft.serving import bundle

    end = threading.Event()
    monkeypatch.setattr(bundle.Bundle, "run", lambda *_: end.wait(60))
    try:
        with serve(toy, timeout=0.5, grpc_port=None) as server:
            assert one(server, 1.0)[0] == 504
            began = time.monotonic()
        assert time.monotonic() - began < 10
        assert server.server.hangs
    finally:
        end.set()


def test_a_damaged_newest_version_does_not_keep_the_older_from_being_served(
    serve, write_toy, tmp_path
):
    write_toy(tmp_path / "1")
    extra = tmp_path / "2" / "assets.extra"
    extra.mkdir(parents=True)
    (extra / "signature.json").write_text("{")
    with serve(tmp_path) as server:
        assert server.server.model.name == "toy"
        assert one(server, 1.0)[0] == 200


def test_a_labelled_version_stays(serve, write_toy, tmp_path):
    for number in (1, 2):
        write_toy(tmp_path / str(number), plus=number * 100.0)
    with serve(tmp_path, labels={"stable": 1}) as server:
        body = {"instances": [{"x": 0.0, "s": ""}]}
        # Either version may be loaded first.
        server.until(lambda: server.ask(":predict", body)[1]["predictions"][0]["y"] == 200.0)
        for path in ("/labels/stable", "/versions/1"):
            assert server.ask(f"{path}:predict", body)[1]["predictions"][0]["y"] == 100.0
    with pytest.raises(UserError, match=r"--label best=7: there is no such version.*1, 2"), \
            serve(tmp_path, labels={"best": 7}):
        pass


def test_a_version_by_itself(serve, toy):
    with serve(toy / "1", name="only") as server:
        assert server.ask("")[1]["model_version_status"][0]["version"] == "1"
        assert one(server, 1.0)[0] == 200


def test_a_port_that_is_taken(serve, toy):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        for kind in ("rest", "grpc"):
            words = rf"cannot listen on 127\.0\.0\.1:{port}.*--{kind}-port"
            with pytest.raises(UserError, match=words), serve(toy, **{f"{kind}_port": port}):
                pass


def test_what_listened_listens_no_longer_when_another_port_is_taken(serve, toy):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        rest = free.getsockname()[1]
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(UserError, match="gRPC cannot listen"), \
                serve(toy, rest_port=rest, grpc_port=taken.getsockname()[1]):
            pass
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", rest), timeout=10)


@pytest.mark.parametrize(("arguments", "words"), [
    (["nowhere"], "There is no export 'nowhere'"),
    (["empty"], "holds no version of a model"),
    (["run"], "is a run folder.*kerasft export run"),
    (["broken"], "No version in 'broken' can be served: version 1: "),
    (["toy", "--batch", "0"], "--batch must be from 1 to 1,000,000 examples"),
    (["toy", "--rest-port", "70000"], "--rest-port must be from 0 to 65535; 0 takes any"),
    (["toy", "--no-rest", "--no-grpc"], "Neither REST nor gRPC"),
    (["toy", "--label", "stable"], "LABEL=VERSION"),
    (["toy", "--label", "stable=²"], "LABEL=VERSION"),
    (["toy", "--allowed-host", "a b"], "--allowed-host must be a name"),
])  # fmt: skip
def test_mistakes_get_one_message(arguments, words, toy, kerasft_cli):
    for folder in ("empty", "run", "broken/1"):
        Path(folder).mkdir(parents=True)
    Path("run/config.yaml").write_text("")
    Path("broken/1/saved_model.pb").write_bytes(b"x")
    Path("toy").symlink_to(toy)
    ended = kerasft_cli("serve", *arguments)
    assert ended.code == 2
    assert re.search(words, ended.err), ended.err


def test_who_listens_to_others_is_warned(toy, capsys):
    from kerasft.serving.server import Server, Settings

    for host, warned in (("0.0.0.0", True), ("::", True), ("127.0.0.1", False), ("::1", False),
                         ("localhost", False)):  # fmt: skip
        Server(Settings(str(toy), host=host), toy)._tell()
        said = capsys.readouterr().err
        assert said.startswith(f"warning: {host} may be reached") if warned else not said


def test_a_missing_extra_is_named(toy, kerasft_cli, monkeypatch):
    from kerasft.serving import server

    monkeypatch.setattr(server, "EXTRAS", {"no_such_package": "aiohttp"})
    ended = kerasft_cli("serve", str(toy))
    assert ended.code == 2
    assert "needs aiohttp. Install: pip install 'kerasft[serve]'" in ended.err


@pytest.mark.slow
def test_stopping_under_load_answers_what_was_taken(serve, toy):
    results = []
    with serve(toy) as server:

        def ask():
            slow = {"signature_name": "slow", "instances": [2.0]}
            results.append(server.ask(":predict", slow)[0])

        clients = [threading.Thread(target=ask) for _ in range(4)]
        for client in clients:
            client.start()
        server.until(lambda: server.server.answering.batcher.held == 4)
        began = time.monotonic()
    for client in clients:
        client.join()
    assert results == [200] * 4
    assert time.monotonic() - began < 60
