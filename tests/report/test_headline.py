from mer_jax.report.formats import headline


def test_the_last_lines_of_a_run(metrics):
    metrics["test"]["waf"], metrics["cv"]["waf"], metrics["cv"]["std"] = 0.9123, 0.8765, 0.0234
    metrics["rounds"][0] |= {"cv_waf": 0.87, "test_waf": 0.92}
    lines = headline(metrics, "runs/semi/report/index.html").splitlines()
    ends = "; 95 % interval 81.2 to 88.0"
    assert lines[0] == "test WAF                       91.2 %   final ensemble" + ends
    assert lines[1] == "cross-validated WAF            87.6 ± 2.3 %   mean and spread over folds" + ends
    assert lines[2] == "  as the challenge counts      91.0 ± 1.5 %   the epoch is the best by the held-out clips"
    assert lines[3] == "  speech alone                 68.0 % test, 69.0 % cross-validated"
    assert "self-training                  −0.8 points test, +0.6 points cross-validated" in lines
    assert lines[-1].endswith("runs/semi/report/index.html")


def test_only_what_is_known(only_cv):
    lines = headline(only_cv, "index.html").splitlines()
    assert [line.strip().split("  ")[0] for line in lines] == [
        "cross-validated WAF",
        "as the challenge counts",
        "report",
    ]


def test_a_score_that_flatters_has_another_name(only_cv):
    only_cv["cv"] |= {"flattered": True, "cautions": ["the settings were chosen by this score"]}
    lines = headline(only_cv, "index.html").splitlines()
    assert lines[0].startswith("cross-validated WAF, flattered ")
    assert lines[2].split("   ")[-1].strip() == "the settings were chosen by this score"


def test_a_run_of_before_is_printed_with_what_it_has(only_cv):
    only_cv["cv"] = {"waf": 0.5, "std": 0.1}
    line = headline(only_cv, "index.html").splitlines()[0]
    assert line.startswith("WAF as the challenge counts ") and line.endswith("over folds; 95 % interval –")
