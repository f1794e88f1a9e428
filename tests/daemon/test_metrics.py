# SPDX-License-Identifier: MIT
"""Numbers as Prometheus reads them, held against its own parser."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from sockd.daemon.metrics import Family, Histogram, exposition


def parsed(*families):
    return [sample for one in text_string_to_metric_families(exposition(families)) for sample in one.samples]


def test_histogram():
    histogram = Histogram((0.1, 1))
    for value in (0.05, 0.1, 0.5, 1, 7):
        histogram.observe(value)
    assert list(histogram.cumulative()) == [("0.1", 2), ("1", 4), ("+Inf", 5)]
    assert (histogram.count, histogram.sum) == (5, 8.65)
    found = parsed(Family("h", "histogram", "help", [({"a": "b"}, histogram)]))
    buckets = {sample.labels["le"]: sample.value for sample in found if sample.name == "h_bucket"}
    assert buckets == {"0.1": 2, "1": 4, "+Inf": 5}
    assert {sample.name: sample.value for sample in found[-2:]} == {"h_count": 5, "h_sum": 8.65}


def test_every_character_of_a_label_comes_back():
    texts = [chr(code) for code in range(1, 256)] + ['\\n"\n', "\udcff"]
    found = parsed(Family("g", "gauge", 'back\\slash and\nnewline and "quote"', [({"x": text}, 1) for text in texts]))
    seen = {sample.labels["x"] for sample in found}
    assert {text for text in texts if text != "\udcff"} <= seen
    assert "?" in seen  # what is no text


def test_what_has_no_samples_is_left_out():
    assert exposition([Family("g", "gauge", "help", [])]) == ""
