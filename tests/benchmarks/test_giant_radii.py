"""The benchmark of the search for a radius without giants, in miniature."""

import giant_radii


def test_both_ways_agree_and_the_search_takes_fewer_passes(capsys, monkeypatch):
    monkeypatch.setattr("nplp.clustering.sweep.pairs._MIN_PAIRS", 2000)
    monkeypatch.setattr("nplp.clustering.sweep.pairs._PAIRS_PER_SAMPLE", 0)
    assert giant_radii.main(["--count", "150"]) == 0
    passes = [int(line.split("|")[3]) for line in capsys.readouterr().out.splitlines()[2:]]
    assert passes[1] < passes[0] / 2
    assert passes[3] == 18 < passes[2] / 9
