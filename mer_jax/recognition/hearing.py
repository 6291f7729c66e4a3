"""What is said in files that nobody has written down, where the run's transcriber does so."""

from collections.abc import Callable, Sequence

from mer_jax.data.clips import Clip
from mer_jax.data.recording import WHOLE
from mer_jax.features.input_settings import InputSettings
from mer_jax.recognition.files import File
from mer_jax.text.transcripts import transcribe_clips


def hearing(settings: InputSettings) -> Callable[[Sequence[File]], Sequence[File]] | None:
    """Gives files their transcripts; None where the run made none. Parts of files stay without."""
    if not settings.transcribes:
        return None
    track = settings.data.audio_track

    def hear(files: Sequence[File]) -> Sequence[File]:
        heard_whole = [file.window == WHOLE and not {"speech", "text"} & {*file.hidden} for file in files]
        paths = [file.path if whole else None for file, whole in zip(files, heard_whole, strict=True)]
        clips = [
            Clip(str(i), "test", path, transcript=file.text, audio_track=track)
            for i, (file, path) in enumerate(zip(files, paths, strict=True))
        ]
        heard = transcribe_clips(clips, settings.transcripts, settings.extraction).clips
        return [file._replace(text=clip.transcript) for file, clip in zip(files, heard, strict=True)]

    return hear
