"""Sound -> transcripts, for clips that the data set has none for, into the cache that every run reads.

    python -m mer_jax.transcribe --config=configs/semi.py:folder,root=DIR [--workdir=DIR] [--dry-run]
        --config.transcripts.transcriber=openai [--config.transcripts.openai.model=NAME ...]

By a server of audio transcriptions, or by Whisper on this machine (--config.transcripts.transcriber=whisper, for which
`pip install "mer_jax[transcribe]"`). Says first what it will send and what that may cost; --dry-run ends there. Can be
killed and started again: only what has no answer yet is asked. `transcripts.csv` in the workdir lists each clip's
transcript, or why it has none; the data set's own files stay as they are.
"""

from absl import flags

from mer_jax.runtime import cli
from mer_jax.settings import Settings

DRY_RUN = flags.DEFINE_bool("dry-run", False, "Only say what would be sent and what it may cost.")
cli.parse_run_flags(__name__, Settings)

from pathlib import Path

from ml_collections import ConfigDict

from mer_jax.features.inputs import seen_dataset
from mer_jax.preflight import preflight
from mer_jax.runtime.errors import UsageError
from mer_jax.runtime.lock import hold
from mer_jax.runtime.settings import read_settings
from mer_jax.text.transcripts import transcribe_clips, write_transcripts


def main(config: ConfigDict, workdir: Path) -> None:
    """The command."""
    settings = read_settings(Settings, config)
    if not settings.reads_rankings:
        raise UsageError(
            "nothing would read transcripts: this config encodes no text (see modalities and text_feature)"
        )
    if not settings.transcribes:
        raise UsageError("nobody is to transcribe: give --config.transcripts.transcriber=openai, or =whisper")
    dataset = None
    if not DRY_RUN.value:
        dataset = preflight(settings, workdir, (), learns=False, weights=False)
        hold(workdir)
    clips = seen_dataset(settings, dataset).clips
    transcripts = transcribe_clips(clips, settings.transcripts, settings.extraction, DRY_RUN.value)
    if DRY_RUN.value:
        return
    path = workdir / "transcripts.csv"
    write_transcripts(path, transcripts)
    print(transcripts.summary())
    print(path)


if __name__ == "__main__":
    cli.run_configured(main)
