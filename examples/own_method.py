"""A method of your own: prototypes of the clusters, which each batch moves a little.

python examples/own_method.py --config-file configs/NPLP/quickstart.yml OUTPUT_DIR logs/prototypes \
    NPLP.METHOD prototypes MODEL.LOSSES.NAME "('TripletLoss',)" NPLP.PROTOTYPES.MOMENTUM 0.9
"""

import torch
from torch.nn import functional as F

from nplp.clustering import estimate_pseudo_labels
from nplp.errors import UserError
from nplp.losses import cluster_centroids, gather_rows, update_lookup_table_
from nplp.methods import DistanceSettings, Labelling, register_method
from nplp_commands.train import command_line

# Each is a key of the configuration: NPLP.PROTOTYPES.EPSILON and so on.
OPTIONS = {"EPSILON": 0.5, "TEMPERATURE": 0.1, "MOMENTUM": 0.8}


@register_method("prototypes", options=OPTIONS)
class Prototypes:
    """Clusters at a fixed radius, and draws each image to the prototype of its cluster."""

    def __init__(self, cfg, model):
        self.options, self.model = cfg.NPLP.PROTOTYPES, model
        if not self.options.TEMPERATURE > 0:
            raise UserError(f"NPLP.PROTOTYPES.TEMPERATURE must be above 0, got {self.options.TEMPERATURE}")
        self.prototypes = torch.zeros(0, cfg.MODEL.HEADS.EMBEDDING_DIM)

    def label(self, iteration, features, cameras):
        """Cluster the images by the Jaccard distance of their features, less each camera's mean."""
        distances = DistanceSettings(camera_centering=True)
        estimate = estimate_pseudo_labels(
            distances.prepare(features),
            cameras,
            epsilon=self.options.EPSILON,
            correct=False,
            **distances.keywords(),
        )
        return Labelling(estimate, distances, radius_key="NPLP.PROTOTYPES.EPSILON")

    def begin_iteration(self, features, labels, cameras):
        """Start each prototype as its cluster's mean feature."""
        means = cluster_centroids(F.normalize(features), torch.from_numpy(labels), int(labels.max()) + 1)
        self.prototypes = F.normalize(means).cpu()
        return 0.0  # logits of unit vectors have a bound

    def losses(self, output, batch):
        """Return the losses of MODEL.LOSSES.NAME and the contrast with the prototypes; then move these."""
        features, targets = F.normalize(output.f_e.float()), batch["targets"]
        logits = features @ self.prototypes.to(features.device).T / self.options.TEMPERATURE
        loss = F.cross_entropy(logits, targets)
        self.prototypes = self.prototypes.clone()  # the gradient still needs the old ones
        # Those of all processes, so that all keep the same prototypes.
        moved, owners = gather_rows(features.detach()).cpu(), gather_rows(targets).cpu()
        update_lookup_table_(self.prototypes, moved, owners, True, self.options.MOMENTUM)
        return {**self.model.losses(output, batch), "loss_prototypes": loss}

    def state_dict(self):
        """Return what a resumed run needs to go on to the bit."""
        return {"prototypes": self.prototypes.clone()}

    def load_state_dict(self, state):
        """Go on from there."""
        self.prototypes = state["prototypes"].clone()


if __name__ == "__main__":
    command_line()
