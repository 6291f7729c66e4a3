"""A server over a recognizer of a few numbers, in a thread of this process; clips are real files, decoded for real."""

import asyncio
import socket
import threading
from contextlib import contextmanager

import httpx2
import numpy as np

from mer_jax.data.decoding import ExtractionSettings
from mer_jax.features.encoders import Encoder
from mer_jax.features.readers import Chunk, TextReader
from mer_jax.fusion.ensemble import TrainedEnsemble
from mer_jax.recognition.recognizer import Recognizer
from mer_jax.serving.app import Service
from mer_jax.serving.limits import Limits
from mer_jax.serving.server import Server
from tests.recognition.tiny_run import write_ensemble

LIMITS = Limits(queue=8, batch_clips=4, wait_ms=5, max_mib=1, max_seconds=60, timeout=30, grace=10)


class Loudness:
    """Sound as three numbers."""

    sample_rate = 16_000

    def chunks(self, waveform):
        x = waveform.astype(np.float32) / 2**15
        return [Chunk(np.array([[x.std(), np.abs(x).max(), len(x) / 16_000]], np.float32))]


def tiny_recognizer(folder):
    write_ensemble(folder)
    text = TextReader(lambda texts: [[len(text), 7] for text in texts], {}, "zh-1", 8)
    encoders = {
        name: Encoder(name, reader, "", lambda: lambda data, lengths: (data[:, 0], lengths), buckets=(2,), budget=8)
        for name, reader in {"speech": Loudness()}.items()
    } | {"text": Encoder("text", text, "", lambda: lambda data, lengths: (data * 1.0, lengths), buckets=(2,), budget=8)}
    return Recognizer(TrainedEnsemble(folder), encoders, lambda texts: {}, ExtractionSettings(workers=2))


@contextmanager
def served(recognizer, folder, ready=True, names=(), **limits):
    """(client, service) of a running server; it is stopped in good order when the block ends."""
    listening = socket.create_server(("127.0.0.1", 0))
    started, parts = threading.Event(), []

    async def main():
        service = Service("tiny", folder, LIMITS._replace(**limits), names)
        if ready:
            service.begin(recognizer)
        server = Server(service)
        parts.extend([service, server, asyncio.get_running_loop()])
        started.set()
        await server.serve([listening])
        if service.batches:
            service.batches.close()

    thread = threading.Thread(target=asyncio.run, args=(main(),))
    thread.start()
    started.wait()
    service, server, _ = parts
    address = f"http://127.0.0.1:{listening.getsockname()[1]}"
    try:
        with httpx2.Client(base_url=address, timeout=60) as client:
            client.stop = lambda: setattr(server, "should_exit", True)
            yield client, service
    finally:
        server.should_exit = True
        thread.join(60)
        assert not thread.is_alive()
    assert not [*folder.iterdir()], "uploads are left"
