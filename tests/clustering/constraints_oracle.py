"""Constraints and what they do to labels, by the letter: sets, all pairs, exact fractions."""

from collections import Counter
from fractions import Fraction
from itertools import combinations

import numpy as np

OUTLIER = -1


def group_of(groups, image):
    return next(group for group in groups if image in group)


def joined(groups, images):
    """Return groups in which those of some images are one."""
    touched = [group for group in groups if group & set(images)]
    return [group for group in groups if group not in touched] + [set().union(*touched)]


def slow_constraints(count, tracks=None, cameras=None, times=None, must=(), cannot=()):
    """Return components as sorted lists, pairs of them, refused tracks and dropped pairs."""
    groups = [{image} for image in range(count)]
    for pair in must:
        groups = joined(groups, pair)
    said, dropped = [], 0
    for pair in sorted({tuple(sorted(pair)) for pair in cannot}):
        if group_of(groups, pair[0]) is group_of(groups, pair[1]):
            dropped += 1
        else:
            said.append(pair)
    by_track = {}
    for image in range(count):
        if tracks is not None and tracks[image] >= 0:
            by_track.setdefault((tracks[image], 0 if cameras is None else cameras[image]), []).append(image)
    believed, refused = {}, 0
    for key, images in sorted(by_track.items()):
        whole = set().union(*(group_of(groups, image) for image in images))
        if any(one in whole and other in whole for one, other in said):
            refused += 1
        else:
            groups, believed[key] = joined(groups, images), images
    apart = list(said)
    for one, other in combinations(sorted(believed), 2):
        if times is None or one[1] != other[1]:
            continue
        known = [[times[i] for i in believed[key] if not np.isnan(times[i])] for key in (one, other)]
        if all(known) and min(known[0]) < max(known[1]) and min(known[1]) < max(known[0]):
            pair = believed[one][0], believed[other][0]
            if group_of(groups, pair[0]) is group_of(groups, pair[1]):
                dropped += 1
            else:
                apart.append(pair)
    groups = sorted(map(sorted, groups))
    number = {image: place for place, group in enumerate(groups) for image in group}
    edges = sorted({tuple(sorted((number[one], number[other]))) for one, other in apart})
    return [number[image] for image in range(count)], edges, refused, dropped


def slow_parts(features, groups, edges):
    """Return the parts, each a set of components, of a cluster; ``groups`` gives a component's images."""
    parts = [{name} for name in sorted(groups)]

    def distance(one, other):
        pairs = [(i, j) for a in one for b in other for i in groups[a] for j in groups[b]]
        return Fraction(
            sum(
                sum((int(x) - int(y)) ** 2 for x, y in zip(features[i], features[j], strict=True))
                for i, j in pairs
            ),
            len(pairs),
        )

    while True:
        allowed = [
            (distance(one, other), min(one), min(other), one, other)
            for one, other in combinations(sorted(parts, key=min), 2)
            if not any({a, b} in edges for a in one for b in other)
        ]
        if not allowed:
            return sorted(parts, key=min)
        *_, one, other = min(allowed, key=lambda pair: pair[:3])
        parts = [part for part in parts if part not in (one, other)] + [one | other]


def slow_labels(labels, components, edges, features, min_samples):
    """Return labels that keep the constraints; steps 1 to 5 of `constrain_labels`."""
    before = list(labels)
    images = {name: [i for i, c in enumerate(components) if c == name] for name in set(components)}
    sizes = Counter(label for label in before if label != OUTLIER)
    voted = list(before)
    for members in images.values():
        votes = Counter(before[i] for i in members if before[i] != OUTLIER)
        if len(members) > 1 and votes:
            winner = min(votes, key=lambda label: (-votes[label], -sizes[label], label))
            for i in members:
                voted[i] = winner
    # Step 2.
    target = {}
    for label in sizes:
        gone = Counter(new for old, new in zip(before, voted, strict=True) if old == label != new)
        for new, moved in gone.items():
            if 2 * moved > sizes[label]:
                target[label] = new

    def final(label):
        while label in target:
            label = target[label]
        return label

    now = [final(label) for label in voted]
    reduced = {old for old, new in zip(before, now, strict=True) if old not in (OUTLIER, new)}
    # Step 3.
    following = max(before, default=OUTLIER) + 1
    for name in sorted(images):
        members = images[name]
        if len(members) >= max(2, min_samples) and all(now[i] == OUTLIER for i in members):
            for i in members:
                now[i] = following
            following += 1
    # Step 4.
    for label in range(following):
        groups = {name: members for name, members in images.items() if now[members[0]] == label}
        inside = [set(edge) for edge in edges if set(edge) <= set(groups)]
        if not inside:
            continue
        parts = slow_parts(features, groups, inside)
        counts = [sum(len(groups[name]) for name in part) for part in parts]
        keeper = counts.index(max(counts))
        reduced.add(label)
        for place, part in enumerate(parts):
            if place != keeper:
                for name in part:
                    for i in groups[name]:
                        now[i] = following
                reduced.add(following)
                following += 1
    # Step 5.
    left = Counter(now)
    now = [OUTLIER if label in reduced and left[label] < min_samples else label for label in now]
    names = sorted(set(now) - {OUTLIER})
    return [OUTLIER if label == OUTLIER else names.index(label) for label in now]
