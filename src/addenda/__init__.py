"""Addenda: knowledge modules beside frozen language models. Public names, imported when first used."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.2.0"

# One line per public name: where it lives. Lazy, so that `addenda --help` does not wait for torch.
_WHERE = {
    "attach": "plug.base",
    "load_base": "plug.base",
    "Base": "plug.base",
    "fingerprint": "bases.fingerprint",
    "plug_cost": "plug.foreign",
    "PlugCost": "plug.foreign",
    "cost_of": "plug.cost",
    "BaseCost": "plug.cost",
    "KnowledgeModule": "core.module",
    "list_methods": "core.method_list",
    "ListedMethod": "core.method_list",
    "Card": "core.card",
    "AddendaError": "core.errors",
    "Registers": "kinds.registers",
    "Cartridge": "kinds.cartridge",
    "NeutralResidues": "kinds.neutral_residues",
    "ParallelAdapter": "kinds.parallel_adapter",
    "LoRA": "kinds.lora",
    "FFALoRA": "kinds.ffa_lora",
    "LocasGLU": "kinds.locas_glu",
    "LocasMLP": "kinds.locas_mlp",
    "TernaryUnits": "kinds.ternary_units",
    "LowRankUnits": "kinds.low_rank_units",
    "DeltaProduct": "kinds.delta_product",
    "FFNSkip": "kinds.ffn_skip",
    "HEMA": "remembering.hema",
    "MLPMemory": "kinds.mlp_memory",
    "SoftTokens": "kinds.soft_tokens",
    "OpenBook": "kinds.open_book",
    "teach": "teaching.teach",
    "TeachReport": "teaching.teach_report",
    "study": "teaching.study",
    "StudyReport": "teaching.study_report",
    "load_study": "teaching.study_set",
    "StudySet": "teaching.study_set",
    "train": "writing.train",
    "TrainReport": "writing.report",
    "memorize": "writing.memorize",
    "MemorizeReport": "writing.memory_report",
    "edit": "editing.edit",
    "EditReport": "editing.edit",
    "Edit": "measuring.asking.edits",
    "merge": "combining.merge",
    "MergeReport": "combining.merge",
    "combine": "combining.combine",
    "route": "routing.route",
    "Routes": "routing.route",
    "learn_route": "routing.learn",
    "LearnedRoute": "routing.learn",
    "subtract": "combining.subtract",
    "SubtractReport": "combining.subtract",
    "forget": "removing.forget",
    "ForgetReport": "removing.report",
    "WholeReport": "removing.report",
    "compress": "compressing.compress",
    "perplexity": "measuring.asking.perplexity",
    "Score": "measuring.asking.perplexity",
    "calibrate": "measuring.looking.neutrality",
    "neutral_share": "measuring.looking.neutrality",
    "compare": "comparing.compare",
    "forgetting_at_gain": "comparing.equal_gain",
    "evaluate": "measuring.conducting.evaluate",
    "changed_answers": "measuring.asking.chats",
    "disturbance": "measuring.looking.disturbance",
    "zero_shot": "measuring.asking.zero_shot",
    "evaluate_tasks": "measuring.asking.accuracy",
    "record": "measuring.conducting.recorded",
    "biographies": "measuring.asking.facts",
    "load_facts": "measuring.asking.facts",
    "recall": "measuring.asking.recall",
    "push_to_hub": "modulefile.hub",
    "publish": "modulefile.hub",
    "list_modules": "modulefile.folders",
    "delete": "modulefile.folders",
    "save_peft": "modulefile.peft_format",
}

__all__ = ["__version__", *_WHERE]

if TYPE_CHECKING:
    from addenda.bases.fingerprint import fingerprint as fingerprint
    from addenda.combining.combine import combine as combine
    from addenda.combining.merge import MergeReport as MergeReport
    from addenda.combining.merge import merge as merge
    from addenda.combining.subtract import SubtractReport as SubtractReport
    from addenda.combining.subtract import subtract as subtract
    from addenda.comparing.compare import compare as compare
    from addenda.comparing.equal_gain import forgetting_at_gain as forgetting_at_gain
    from addenda.compressing.compress import compress as compress
    from addenda.core.card import Card as Card
    from addenda.core.errors import AddendaError as AddendaError
    from addenda.core.method_list import ListedMethod as ListedMethod
    from addenda.core.method_list import list_methods as list_methods
    from addenda.core.module import KnowledgeModule as KnowledgeModule
    from addenda.editing.edit import EditReport as EditReport
    from addenda.editing.edit import edit as edit
    from addenda.kinds.cartridge import Cartridge as Cartridge
    from addenda.kinds.delta_product import DeltaProduct as DeltaProduct
    from addenda.kinds.ffa_lora import FFALoRA as FFALoRA
    from addenda.kinds.ffn_skip import FFNSkip as FFNSkip
    from addenda.kinds.locas_glu import LocasGLU as LocasGLU
    from addenda.kinds.locas_mlp import LocasMLP as LocasMLP
    from addenda.kinds.lora import LoRA as LoRA
    from addenda.kinds.low_rank_units import LowRankUnits as LowRankUnits
    from addenda.kinds.mlp_memory import MLPMemory as MLPMemory
    from addenda.kinds.neutral_residues import NeutralResidues as NeutralResidues
    from addenda.kinds.open_book import OpenBook as OpenBook
    from addenda.kinds.parallel_adapter import ParallelAdapter as ParallelAdapter
    from addenda.kinds.registers import Registers as Registers
    from addenda.kinds.soft_tokens import SoftTokens as SoftTokens
    from addenda.kinds.ternary_units import TernaryUnits as TernaryUnits
    from addenda.measuring.asking.accuracy import evaluate_tasks as evaluate_tasks
    from addenda.measuring.asking.chats import changed_answers as changed_answers
    from addenda.measuring.asking.edits import Edit as Edit
    from addenda.measuring.asking.facts import biographies as biographies
    from addenda.measuring.asking.facts import load_facts as load_facts
    from addenda.measuring.asking.perplexity import Score as Score
    from addenda.measuring.asking.perplexity import perplexity as perplexity
    from addenda.measuring.asking.recall import recall as recall
    from addenda.measuring.asking.zero_shot import zero_shot as zero_shot
    from addenda.measuring.conducting.evaluate import evaluate as evaluate
    from addenda.measuring.conducting.recorded import record as record
    from addenda.measuring.looking.disturbance import disturbance as disturbance
    from addenda.measuring.looking.neutrality import calibrate as calibrate
    from addenda.measuring.looking.neutrality import neutral_share as neutral_share
    from addenda.modulefile.folders import delete as delete
    from addenda.modulefile.folders import list_modules as list_modules
    from addenda.modulefile.hub import publish as publish
    from addenda.modulefile.hub import push_to_hub as push_to_hub
    from addenda.modulefile.peft_format import save_peft as save_peft
    from addenda.plug.base import Base as Base
    from addenda.plug.base import attach as attach
    from addenda.plug.base import load_base as load_base
    from addenda.plug.cost import BaseCost as BaseCost
    from addenda.plug.cost import cost_of as cost_of
    from addenda.plug.foreign import PlugCost as PlugCost
    from addenda.plug.foreign import plug_cost as plug_cost
    from addenda.remembering.hema import HEMA as HEMA
    from addenda.removing.forget import forget as forget
    from addenda.removing.report import ForgetReport as ForgetReport
    from addenda.removing.report import WholeReport as WholeReport
    from addenda.routing.learn import LearnedRoute as LearnedRoute
    from addenda.routing.learn import learn_route as learn_route
    from addenda.routing.route import Routes as Routes
    from addenda.routing.route import route as route
    from addenda.teaching.study import study as study
    from addenda.teaching.study_report import StudyReport as StudyReport
    from addenda.teaching.study_set import StudySet as StudySet
    from addenda.teaching.study_set import load_study as load_study
    from addenda.teaching.teach import teach as teach
    from addenda.teaching.teach_report import TeachReport as TeachReport
    from addenda.writing.memorize import memorize as memorize
    from addenda.writing.memory_report import MemorizeReport as MemorizeReport
    from addenda.writing.report import TrainReport as TrainReport
    from addenda.writing.train import train as train


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'addenda' has no attribute '{name}'")
    value = getattr(importlib.import_module(f"addenda.{_WHERE[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
