from mer_jax.report import headline


def test_the_last_lines_of_a_run(metrics):
    metrics["test"]["waf"], metrics["cv"]["waf"], metrics["cv"]["std"] = 0.9123, 0.8765, 0.0234
    metrics["rounds"][0] |= {"cv_waf": 0.87, "test_waf": 0.92}
    lines = headline(metrics, "runs/semi/report/index.html").splitlines()
    assert lines[0] == "test WAF                       91.2 %   final ensemble"
    assert lines[1] == "cross-validated WAF            87.6 ± 2.3 %   mean and spread over folds"
    assert lines[2] == "  speech alone                 68.0 % test, 69.0 % cross-validated"
    assert "self-training                  −0.8 points test, +0.6 points cross-validated" in lines
    assert lines[-1].endswith("runs/semi/report/index.html")


def test_only_what_is_known(only_cv):
    lines = headline(only_cv, "index.html").splitlines()
    assert [line.split("  ")[0] for line in lines] == ["cross-validated WAF", "report"]
