"""People are cut in two by camera or at random, and nobody is joined with another."""

import numpy as np
import pytest

from cut_links import FORMS, cut

IDENTITIES = np.repeat(np.arange(20), 16)
CAMERAS = np.tile([0] * 8 + [1] * 8, 20)


@pytest.mark.parametrize("form", FORMS)
def test_each_cluster_is_of_one_person_and_labels_have_no_gaps(form):
    labels = cut(IDENTITIES, CAMERAS, 0.5, form, seed=0)
    assert np.array_equal(np.unique(labels), np.arange(labels.max() + 1))
    for label in np.unique(labels):
        assert len(np.unique(IDENTITIES[labels == label])) == 1
    assert labels.max() + 1 == {"whole": 20}.get(form, 30)


def test_by_camera_no_cluster_of_a_cut_person_has_two_cameras_and_at_random_some_have():
    def cameras_of_pieces(form):
        labels = cut(IDENTITIES, CAMERAS, 1.0, form, seed=0)
        return [len(np.unique(CAMERAS[labels == label])) for label in np.unique(labels)]

    assert set(cameras_of_pieces("cut by camera")) == {1}
    assert max(cameras_of_pieces("cut at random")) == 2


def test_both_forms_cut_the_same_people():
    def people(form):
        labels = cut(IDENTITIES, CAMERAS, 0.3, form, seed=3)
        pieces = [len(np.unique(labels[person == IDENTITIES])) for person in range(20)]
        return {person for person, count in enumerate(pieces) if count == 2}

    assert people("cut by camera") == people("cut at random")
    assert len(people("cut by camera")) == 6
