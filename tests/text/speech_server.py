"""A server of audio transcriptions that misbehaves on purpose: OpenAI's format, and an ear for sine waves alone."""

import io
import json
import wave
from email import message_from_bytes

import numpy as np

from tests.text.chat_server import ChatServer, Handler


def heard(frequency):
    """The transcript of a tone."""
    return f"I hear {frequency:.0f} Hz."


class SpeechHandler(Handler):
    def question(self, content):
        head = f"Content-Type: {self.headers['Content-Type']}\r\n\r\n".encode()
        parts = message_from_bytes(head + content).get_payload()
        body = {part.get_param("name", header="content-disposition"): part.get_payload(decode=True) for part in parts}
        with wave.open(io.BytesIO(body.pop("file"))) as file:
            assert file.getparams()[:3] == (1, 2, 16_000)
            sound = np.frombuffer(file.readframes(file.getnframes()), "<i2")
        body = {name: value.decode() for name, value in body.items()} | {"seconds": len(sound) / 16_000}
        spectrum = np.abs(np.fft.rfft(sound))
        return body, heard(round(spectrum.argmax() / body["seconds"], -1))

    def reply(self, fault, transcript):
        self.server.paid[transcript] += 1
        return (self.server.says or (lambda text: text))(transcript), None

    def completion(self, content, refusal=None):
        return json.dumps({"text": content})


class SpeechServer(ChatServer):
    """See `ChatServer`. says: (transcript) -> what is answered in its place."""

    handler = SpeechHandler
