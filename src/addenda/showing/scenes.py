"""Scenes of the demo: what is taught to which base, on which texts, how much of it, and what is asked afterwards.

A scene is one entry of `SCENES`; everything else of the demo is the same for all.
"""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Size:
    """How much the demo does.

    `tokens` are those that each module is trained on, replay included, in steps of `batch_rows` rows of `length`. `pieces` of
    held-out text are scored, (subject, general), of so many `characters`; None: one of each document. `compared` are the tokens
    of general text whose predictions are compared with the base's, `chats` the general chats whose answers are, `questions` the
    zero-shot questions of each set. `prompts` of each sort are continued by `written` tokens.
    """

    tokens: int
    batch_rows: int
    length: int
    pieces: tuple[int | None, int | None]
    characters: tuple[int, int]
    compared: int
    prompts: int
    written: int
    chats: int = 0
    questions: int = 0


@dataclass(frozen=True)
class Scene:
    """One base, one subject. Texts are named as the samples that come with the package; `asked` goes through the chat's form.

    `taught` names the subject, `subject` and `general` the two sorts of text; `described` says where
    the texts come from. `extra` is the module's size, a share of the base's parameters; `half` lets it be trained in
    bfloat16 where that is fast.
    """

    base: str
    taught: str
    subject: str
    general: str
    described: str
    module: str
    corpus: str
    held_out: str
    replay: str
    held_out_general: str
    extra: float
    full: Size
    quick: Size
    half: bool = False
    asked: tuple[str, ...] = ()
    limits: tuple[str, ...] = ()

    @property
    def rival(self) -> str:
        """What the LoRA of equal size is called."""
        return f"{self.module}-lora"


SCENES: dict[str, Scene] = {
    scene.base: scene
    for scene in (
        Scene(
            base="tiny",
            taught="medicine",
            subject="medical",
            general="general",
            described="Medical means abstracts of randomised trials in PubMed Central; general means encyclopedia, textbooks and "
            "novels, all English.",
            module="pubmed",
            corpus="pubmed_train",
            held_out="pubmed_valid",
            replay="general_train",
            held_out_general="general_valid",
            extra=0.2,
            full=Size(90_000, 4, 256, (None, None), (600, 1000), 5_000, 4, 40),
            quick=Size(6_144, 3, 64, (12, 12), (240, 240), 500, 2, 8),
            limits=(
                "The base is very small: it writes plausible English and does not reason. The numbers compare two methods on "
                "it; they do not say what either reaches on a large model.",
            ),
        ),
        Scene(
            base="smollm2",
            taught="French",
            subject="French",
            general="general English",
            described="French means novels of 1840 to 1920; general English means encyclopedia, textbooks and novels. The pieces "
            "of held-out French come from two novels alone.",
            module="french",
            corpus="french_train",
            held_out="french_valid",
            replay="general_train",
            held_out_general="general_valid",
            extra=0.1,
            full=Size(45_056, 4, 256, (24, None), (700, 800), 4_000, 4, 40, chats=60, questions=100),
            quick=Size(3_072, 3, 128, (6, 6), (400, 400), 500, 2, 12, chats=4, questions=2),
            half=True,
            asked=("What is the capital of Japan?", "Explain in two sentences why the sky is blue."),
            limits=(
                "A model that was tuned to answer writes encyclopedia text worse than it could. Training on text makes up for "
                "that, so its loss on general text may fall while its answers change. Read forgetting from the predictions, the "
                "answers and the questions.",
            ),
        ),
    )
}


def scene_of(base: str) -> Scene:
    """The scene of a base by its name; of any other base that of the embedded one, which asks nothing of it but English."""
    return SCENES.get(base) or replace(SCENES["tiny"], limits=())  # those are of `tiny` itself
