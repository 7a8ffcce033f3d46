"""What mteb computes on the way, from a real run to what `compare` resamples."""

import json

import numpy as np
import pytest

pytest.importorskip("mteb")

from support.evaluation import write_model

from tempscale.comparison.compare import compare
from tempscale.evaluation.evaluate import evaluate
from tempscale.evaluation.store import Store
from tempscale.evaluation.tasks import find_parts

pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning:mteb"
)

CLASSIFICATION = "Banking77Classification"


def test_mteb_draws_the_same_training_sets_for_every_setting(data):
    drawn = []
    for _ in range(2):
        (part,) = find_parts([CLASSIFICATION], data)
        part.load()
        task = part.fresh()
        rows, order, sets = task.dataset[task.train_split], None, []
        for experiment in range(task.n_experiments):
            _, order, chosen = task._undersample_data(rows, experiment, order)
            sets.append(chosen)
        drawn.append(sets)
    assert drawn[0] == drawn[1]
    assert len({tuple(chosen) for chosen in drawn[0]}) == task.n_experiments == 10, "and ten different ones"


def test_the_score_with_each_training_set_reaches_the_comparison(data, tmp_path):
    model = write_model(tmp_path / "model")
    evaluate(model, [CLASSIFICATION], [1.0, 0.5], out=tmp_path / "out", data_dir=data, progress=False)
    with Store(tmp_path / "out") as store:
        units = store.units().set_index("temperature")
    first, second = (
        np.array([one["accuracy"] for one in json.loads(units.scores[label])["scores_per_experiment"]])
        for label in ("1.0", "0.5")
    )
    row = compare(tmp_path / "out", resamples=20_000, lengths=False).query("scope == 'task'").iloc[0]
    assert row.interval == "items and training sets"
    assert np.isclose((second - first).mean(), row.difference)
    # the variances of the two deviations add; of a Student t with nine degrees of freedom it is 9 / 7 of the scale
    over_items = (row.high_conditional - row.low_conditional) / 2 / 1.96
    total = np.hypot(over_items, (second - first).std(ddof=1) / np.sqrt(10) * np.sqrt(9 / 7))
    assert np.isclose(row.half_width, 1.96 * total, rtol=0.07)
    assert total > 1.05 * over_items
