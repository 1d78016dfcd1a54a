"""What `monailabel start_server --app monailabel_app` loads: wiring only."""

import logging
from pathlib import Path

from monailabel.interfaces.app import MONAILabelApp

import bird_server.asgi  # noqa: F401  dresses MONAI Label's app: /bird routes, guard, JSON errors
from bird_server.opening import open_service
from bird_server.service import DEFAULT_MODEL, current, in_use, use
from bird_server.volumes.datastore import inside_datastore
from bird_vlm.backend import Backend
from bird_vlm.running import Running
from bird_vlm.version import __version__

# All of `lib` is imported here: the app folder leaves sys.path after loading.
from lib.batch import BatchGrounding
from lib.infers.grounding import GroundingTask
from lib.saving import take_label
from lib.scoring import scoring_methods
from lib.strategies import strategies
from lib.trainers import ReviewedBoxes

logger = logging.getLogger(__name__)
_RUNNING = ("device", "precision", "quantize")


class BirdApp(MONAILabelApp):
    """BiRD as a MONAI Label app.

    `--conf model DIR_OR_ID` chooses the weights, `--conf device`, `precision` and `quantize` how
    they are run; `--conf backend URL` and `dialect` a server that runs them elsewhere.
    """

    def __init__(self, app_dir, studies, conf):
        if in_use() is None:
            choices = {name: conf[name] for name in _RUNNING if name in conf}
            if "backend" in conf:
                choices["backend"] = Backend(conf["backend"], conf.get("dialect"))
            model = conf.get("model", DEFAULT_MODEL)
            use(open_service(Path(studies), model, Running(**choices)))
        super().__init__(
            app_dir=app_dir,
            studies=studies,
            conf=conf,
            name="BiRD",
            description="Ask where a structure is, get boxes; draw a box, get its name.",
            version=__version__,
        )

    def init_datastore(self):
        return inside_datastore(self.studies)

    def init_infers(self):
        card = current().card
        logger.info("model %s on %s", card.id, card.device)
        return {"bird_grounding": GroundingTask()}

    def init_trainers(self):
        return {"bird": ReviewedBoxes()}

    def init_strategies(self):
        return strategies()

    def init_scoring_methods(self):
        return scoring_methods()

    def init_batch_infer(self):
        return BatchGrounding()

    def batch_infer(self, request, datastore=None):
        """Whether or not MONAI Label's own batches, which start a process, are switched on."""
        return BatchGrounding()(request, datastore or self.datastore(), self.infer)

    def on_save_label(self, image_id, label_id):
        return take_label(self.datastore(), image_id, label_id)
