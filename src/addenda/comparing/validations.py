"""Validations: what those of a module's training took, so that times of training can be told without them."""

from __future__ import annotations

import json
import math
import time
from pathlib import Path
from typing import Any

from accelerate.tracking import GeneralTracker

from addenda.core.errors import TrainingError
from addenda.files import replace_text
from addenda.writing import checkpoint


class Validations(GeneralTracker):
    """Seconds of each validation by its step, kept beside a run's checkpoints for the call that resumes it.

    As a tracker it is told of each record in the log. A step that is validated has its losses logged just before: give
    `every(steps)` as `validate_every`.
    """

    name = "validations"
    requires_logging_directory = False

    def __init__(self, run: Path) -> None:
        super().__init__()
        self.file = run / "validations.json"
        self.seconds: dict[int, float] = {}
        self._last = (-1, 0.0)  # step and time of the last record
        kept = checkpoint.folders(run)
        if kept and self.file.exists():
            found = json.loads(self.file.read_text(encoding="utf-8"))
            # a checkpoint's clock stands before the validation of its own step
            self.seconds = {int(step): one for step, one in found.items() if int(step) < int(kept[-1].name[5:])}

    @property
    def tracker(self) -> Validations:
        """Itself: accelerate asks for it."""
        return self

    def log(self, values: dict[str, Any], step: int | None = None, **_: Any) -> None:
        """A record was logged.

        Raises:
            TrainingError: a validation's loss is not finite.
        """
        now = time.perf_counter()
        losses = [one for name, one in values.items() if name.startswith("validation/") and name.endswith("/loss")]
        if not all(map(math.isfinite, losses)):  # no checkpoint could be written of it
            raise TrainingError(f"the loss on validation text is not finite at step {step}; a smaller rate may help")
        if losses and step is not None and step == self._last[0]:
            self.seconds[step] = now - self._last[1]
            replace_text(self.file, json.dumps(self.seconds))
        self._last = (-1 if step is None else step, now)

    def before(self, steps: int) -> float:
        """Seconds of those before the last step: a report's clock stops before the last one."""
        return sum(one for step, one in self.seconds.items() if step < steps)

    @staticmethod
    def every(steps: int) -> int:
        """Steps between validations: about a tenth of the run, and where `train` logs too."""
        tenth, logged = max(1, steps // 10), max(1, steps // 100)
        return tenth - tenth % logged
