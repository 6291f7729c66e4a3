"""Progress in a log: a plain line each, none of them empty."""

from mer_jax.runtime.progress import PlainLines, progress


def test_plain_lines_where_there_is_no_terminal(capsys):
    lines = PlainLines()
    for text in ("\r  speech:  50%|##", "\n", "", "\r  speech: 100%|####  ", "\n"):
        lines.write(text)
        lines.flush()
    assert capsys.readouterr().err == "speech:  50%|##\nspeech: 100%|####\n"


def test_the_last_line_says_how_far_it_got(capsys):
    with progress("speech", 3, "clip") as bar:
        bar.update(2)
    assert "speech:  67%" in capsys.readouterr().err.splitlines()[-1]
