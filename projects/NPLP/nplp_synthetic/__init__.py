"""The built-in synthetic person re-ID domains: drawn pedestrians, seen by drawn camera networks.

``plaza`` (daylight, outdoors, summer clothes) and ``station`` (artificial light, indoors, winter clothes)
stand in for a labelled source and an unlabelled target where no benchmark is at hand; ``campus`` (outdoors
and indoors, low sun, both kinds of clothes) for a third network, larger than the two. ``harbour`` is an
unkind target: its cameras differ much, few of them see a person, and many people look alike.
Everything is drawn by this package from a seed: no photograph, no download, no identity of a real person.

It needs numpy, Pillow and tqdm only.
"""

from nplp_synthetic.images import Record, iter_images
from nplp_synthetic.layouts import write_duke, write_market, write_msmt17
from nplp_synthetic.render import render_image
from nplp_synthetic.sheet import contact_sheet
from nplp_synthetic.spec import DOMAINS, GENERATOR_VERSION, DomainSpec, DomainStyle
from nplp_synthetic.store import DomainError, default_cache_root, ensure_domain, render_domain
from nplp_synthetic.tracks import TrackedImage, track_images
from nplp_synthetic.writer import market_name

__all__ = [
    "DOMAINS",
    "GENERATOR_VERSION",
    "DomainError",
    "DomainSpec",
    "DomainStyle",
    "Record",
    "TrackedImage",
    "contact_sheet",
    "default_cache_root",
    "ensure_domain",
    "iter_images",
    "market_name",
    "render_domain",
    "render_image",
    "track_images",
    "write_duke",
    "write_market",
    "write_msmt17",
]
