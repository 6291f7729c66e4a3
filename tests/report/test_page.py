import json
import re
from html.parser import HTMLParser

import pytest

from mer_jax.report import figures
from mer_jax.report.formats import headline, points
from mer_jax.report.page import render, write_report
from tests.report.conftest import VOTES

SECTIONS = [
    *("headline", "folds", "classes", "confusion", "curves", "self-training", "subsets", "single"),
    *("ablations", "video", "text", "attention", "problems", "time", "paper", "settings"),
]
VOID = {"meta", "br", "link", "img", "input"}


class Page(HTMLParser):
    """Checks that tags nest, and keeps what the tests look at: ids in order, text, tags, addresses."""

    def __init__(self, html):
        super().__init__()
        self.open, self.tags, self.ids, self.text, self.addresses = [], [], [], "", []
        self.feed(html)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        attributes = dict(attrs)
        self.ids += [attributes["id"]] if "id" in attributes else []
        self.addresses += [v for k, v in attrs if k in ("src", "href", "xlink:href")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def section(html, name):
    return re.search(rf'<(section|header) id="{name}">.*?</\1>', html, re.DOTALL).group()


def test_every_section_in_order_and_filled(metrics):
    html = render(metrics)
    page = Page(html)
    assert [name for name in page.ids if name in SECTIONS] == SECTIONS
    assert len(page.ids) == len(set(page.ids))
    assert page.tags.count("svg") == 5
    assert 'class="absent"' not in html


def test_votes_stand_beside_the_networks_and_have_no_part_in_what_self_training_gave(metrics):
    html = render(metrics | {"votes": VOTES})
    Page(html)
    part = section(html, "votes")
    rows = [re.sub(r"<[^>]+>", " ", row).split() for row in re.findall(r"<tr.*?</tr>", part, re.DOTALL)]
    assert ["networks", "alone", "75.5", "76.6"] in rows and ["both", "81.1", "82.2"] in rows
    assert ["train", "390", "61.1", "62.2"] in rows and ["unlabeled", "700", "64.4", "–"] in rows
    assert "weight of 1.23" in part and "(1.00, 1.10, 0.00, 1.30, 1.20)" in part and "unknown label" in part
    assert "whose vote is another" in part and "2 votes are of clips that the data set lacks" in part
    assert f"to 75.5&nbsp;% cross-validated ({points(0.755, metrics['rounds'][0]['cv_waf'])} points)" in html
    assert 'href="#votes"' in section(html, "headline")
    lines = dict(line.split("   ", 1) for line in headline(metrics | {"votes": VOTES}, "p").splitlines())
    lines = {name.strip(): value.strip() for name, value in lines.items()}
    gain = points(metrics["cv"]["waf"], 0.755)
    assert f"{gain} points cross-validated, by a weight of 1.23" in lines["votes from outside"]
    assert f"{points(0.755, metrics['rounds'][0]['cv_waf'])} points cross-validated" in lines["self-training"]


def test_the_search_for_faces_is_counted(metrics):
    text = Page(section(render(metrics), "problems")).text
    assert "in 1,490 clips: 13 have none" in text and "151,234 frames 2,048 are without" in text


@pytest.mark.parametrize("keep", ["only_cv", "none"])
def test_missing_parts_are_said_in_a_sentence(metrics, only_cv, keep):
    bare = only_cv if keep == "only_cv" else dict.fromkeys(metrics) | only_cv
    html = render(bare)
    page = Page(html)
    assert [name for name in page.ids if name in SECTIONS] == SECTIONS
    assert "svg" not in page.tags
    for name in set(SECTIONS) - {"headline", "confusion", "paper"}:
        assert 'class="absent"' in section(html, name), name
    assert "the test labels are not known" in section(html, "headline")


def test_a_run_without_test_labels(metrics):
    metrics["test"] = None
    for entry in (*metrics["rounds"], *metrics["modality_subsets"], *metrics["single_modality"]):
        entry["test_waf"] = None
    metrics["ablations"] = None
    html = render(metrics)
    assert "cross-validated WAF" in section(html, "subsets")
    assert "nan" not in html


def test_checkpoints_are_named_with_their_commits(metrics):
    text = Page(render(metrics)).text
    assert "speech TencentGameMate/chinese-hubert-base, commit 0123456789; text /models/qwen." in text


def test_both_scores_stand_side_by_side(metrics):
    text = Page(render(metrics)).text
    assert "As the challenge counts: 91.0 ± 1.5" in text
    for part in ("folds", "self-training", "single", "ablations", "paper"):
        assert "as the challenge counts" in section(render(metrics), part), part
    assert "5.10 with 1 modality present, 2.00 with 2 modalities present" in re.sub(r"\s+", " ", text)


def test_the_numbers_are_the_run_s(metrics):
    metrics["test"]["waf"], metrics["cv"]["waf"], metrics["cv"]["std"] = 0.9123, 0.8765, 0.0234
    headline = Page(section(render(metrics), "headline")).text
    assert "91.2 %" in headline
    assert re.search(r"87\.6 ± 2\.3\s%", headline)
    assert "+23.2 points" in headline  # over speech alone, 68.0
    assert "10 rounds of self-training added 588 pseudo-labelled clips" in headline  # 8 x 60 + 2 x 54


def test_rankings_by_class_with_and_without_and_those_that_failed(metrics):
    text = Page(section(render(metrics), "text")).text
    assert "1,317 of 1,320 distinct transcripts were ranked by openai (gpt-4o-mini, prompt zh-1)" in text
    assert "of 14.2 tokens, a ranking adds 19.0 on average and 21 at most" in text
    assert re.search(r"happy\s*50\.0\s*70\.0\s*66", text)
    assert re.search(r"text without ranking\s*53\.1 ± 2\.0\s*52\.7", text)
    assert "3 clips whose transcript went on without ranking: the model refuses" in text and "sample_00700" in text


def test_tuning_on_all_labels_is_flagged_at_the_top(metrics):
    assert "flattered" not in render(metrics)
    metrics["cv"] |= {"flattered": True, "cautions": ["the prompts have seen <all> clips"]}
    headline = section(render(metrics), "headline")
    assert "Cross-validation, flattered" in headline and "the prompts have seen &lt;all&gt; clips" in headline


def test_the_paper_is_told_apart_from_ours(metrics):
    paper = section(render(metrics), "paper")
    assert "Paper, MER2024" in paper
    assert "Ours, the bundled sample" in paper
    assert "not comparable" in paper
    row = next(line for line in paper.split("<tr>") if "Paper, dropout 0.3" in line)
    assert "90.15" in row
    assert f"{100 * metrics['test']['waf']:.1f}" in row


def test_self_contained(metrics):
    html = render(metrics)
    page = Page(html)
    assert not {"script", "link", "img", "iframe"} & set(page.tags)
    assert all(address.startswith("#") for address in page.addresses)
    assert "@import" not in html
    assert not re.search(r"url\((?!#)", html)


def test_when_and_how_the_run_was_begun_and_its_files(metrics, tmp_path):
    metrics["run"] = {"begun": "2026-01-02T03:04:05+00:00", "command": "python -m mer_jax.train '--config=<x>'"}
    page = tmp_path / "report" / "index.html"
    bare = render(metrics, page.parent)
    assert "2026-01-02 03:04:05 UTC" in section(bare, "settings") and "Files of the run" not in bare
    assert "python -m mer_jax.train &#39;--config=&lt;x&gt;&#39;" in section(bare, "settings")
    for name in ("metrics.json", "predictions/test.csv"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    write_report(metrics, page)
    assert Page(section(page.read_text(), "settings")).addresses == ["../metrics.json", "../predictions/test.csv"]


def test_the_page_of_clips_is_linked_by_every_number_of_a_confusion(metrics, tmp_path):
    metrics["test"]["per_class"][1]["label"] = "angry & <b>"
    metrics["test"]["confusion"][1][0], metrics["test"]["confusion"][1][2] = 7, 0
    assert "clips.html" not in render(metrics, tmp_path)
    (tmp_path / "clips.html").touch()
    html = render(metrics, tmp_path)
    assert "clips.html" in Page(section(html, "headline")).addresses
    confusion = section(html, "confusion")
    assert '"clips.html#split=test&amp;label=angry+%26+%3Cb%3E&amp;prediction=neutral">7</a>' in confusion
    numbers = [count for scores in ("test", "cv") for row in metrics[scores]["confusion"] for count in row]
    assert len(Page(confusion).addresses) == sum(count > 0 for count in numbers)


def test_no_two_ablations_have_one_name(metrics):
    metrics["ablations"][1]["name"] = "this run"  # without self-training
    names = re.findall(r"<tr><th>(.*?)</th>", section(render(metrics), "ablations"))
    assert names[1:] == ["this run", "this run, no self-training", "dropout 0"]


def test_who_has_written_down_what_clips_without_a_transcript_say(metrics):
    assert "from their sound" not in render(metrics)
    metrics["transcripts"] = {"transcriber": "whisper (<m>)", "given": 1200, "failed": 3}
    text = Page(section(render(metrics), "text")).text
    assert (
        "1,200 clips that came without a transcript were given one by whisper (<m>)" in text and "; 3 were not" in text
    )


def test_names_are_escaped(metrics):
    metrics["dataset"]["name"] = "<script>alert(1)</script>"
    html = render(metrics)
    assert "<script" not in html
    assert "&lt;b&gt;&amp;clip" in html


def test_rebuilt_from_metrics_json_to_the_same_bytes(metrics, tmp_path):
    write_report(metrics, tmp_path / "report" / "index.html")
    write_report(json.loads(json.dumps(metrics)), tmp_path / "again.html")
    html = (tmp_path / "report" / "index.html").read_bytes()
    assert html == (tmp_path / "again.html").read_bytes()
    assert str(tmp_path).encode() not in html


def test_each_chart_is_of_its_own_curves(metrics, monkeypatch):
    charts = {}
    monkeypatch.setattr(
        figures, "fold_chart", lambda folds, title, *best: charts.update({title: folds}) or "<svg></svg>"
    )
    render(metrics)
    for name, curves in (("Fusion", metrics["curves"]["fusion"]), ("EmoVCLIP", metrics["curves"]["tune"])):
        assert charts[f"{name}: training loss"] == curves["loss"]
        assert charts[f"{name}: validation WAF, %"] == [[100 * value for value in fold] for fold in curves["waf"]]


def test_each_stream_stands_beside_what_it_adds_and_the_one_that_is_most_alike(metrics):
    assert "most alike" not in render(metrics)
    worth = {"clips": 9, "cv_waf": 0.61, "cv_std": 0.02, "test_waf": None, "without_waf": metrics["cv"]["waf"] - 0.031}
    correlation = {"hubert": {"wavlm": 0.62, "text": None}, "wavlm": {"hubert": 0.62}}
    metrics["streams"] = {
        "modality_of": {"hubert": "speech", "wavlm": "speech", "text": "text"},
        "worth": [{"stream": name, **worth} for name in ("hubert", "wavlm")],
        "correlation": correlation,
    }
    text = " ".join(Page(section(render(metrics), "single")).text.split())
    assert "hubert of speech" in text and "+3.1 wavlm, 0.62" in text.replace("+3.1wavlm", "+3.1 wavlm")
