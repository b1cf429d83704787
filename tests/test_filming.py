"""Films: frames of a scene resemble each other, scenes do not, and everything is the same the second time."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from course_utils import get_weights
from course_utils.experiments.filming import Films, film


def values(image) -> np.ndarray:
    return np.asarray(image, dtype=float)


def test_frames_of_a_scene_resemble_each_other_and_scenes_do_not():
    first, second = film("boat", 0), film("boat", 1)
    assert [image.size for image in first] == [(64, 64)] * 8
    within = np.mean([np.abs(values(first[0]) - values(other)).mean() for other in first[1:]])
    across = np.mean([np.abs(values(first[0]) - values(other)).mean() for other in second])
    assert 1 < within < across / 2


def test_a_film_is_the_same_each_time():
    assert all(a.tobytes() == b.tobytes() for a, b in zip(film("car", 3), film("car", 3), strict=True))
    assert film("car", 3)[0].tobytes() != film("car", 3, seed=8)[0].tobytes()
    with pytest.raises(ValueError, match="lorry"):
        film("lorry", 0)


def test_films_are_a_data_set():
    films = Films(scenes=2, frames=3, transform=get_weights("resnet18", "shapes").transforms())
    assert len(films) == len(films.scenes) == len(films.pictures) == 6 * 2 * 3
    assert films.scenes[:4] == ["boat 0"] * 3 + ["boat 1"]
    assert films.labels[-1] == 5
    image, label = films[35]
    assert (image.shape, films.classes[label]) == ((3, 64, 64), "tree")
    (images, labels), *_ = films.loader([0, 6, 35])
    assert labels.tolist() == [0, 1, 5]
    assert torch.equal(images[2], image)
    batches = [torch.cat([labels for _, labels in films.loader(shuffle=True)]).tolist() for _ in range(2)]
    assert batches[0] == batches[1]
    assert sorted(batches[0]) == sorted(films.labels)
