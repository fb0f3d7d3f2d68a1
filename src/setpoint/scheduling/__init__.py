"""Which requests run together, and when. Pure: no IO, no clock, no event loop; time comes in as an argument."""

from setpoint.scheduling.actions import Action, Reason, Refuse, Start, WakeAt
from setpoint.scheduling.deadline_queue import DeadlineQueue
from setpoint.scheduling.fixed_policy import FixedPolicy
from setpoint.scheduling.latency_law import MeasuredLaw
from setpoint.scheduling.objective_policy import ObjectivePolicy
from setpoint.scheduling.policy import Policy, Pool
from setpoint.scheduling.predictor import held_rows_per_s, worth_per_s
from setpoint.scheduling.restart import RestartPolicy
from setpoint.scheduling.schedulable import Schedulable
from setpoint.scheduling.scheduler import Scheduler
from setpoint.scheduling.sizing import BatchSizer
from setpoint.scheduling.steps import StepGraph, StepRun
from setpoint.scheduling.terms import FixedTerms, ObjectiveTerms, VariantTerms, allowed_variants

__all__ = [
    "Action",
    "BatchSizer",
    "DeadlineQueue",
    "FixedPolicy",
    "FixedTerms",
    "MeasuredLaw",
    "ObjectivePolicy",
    "ObjectiveTerms",
    "Policy",
    "Pool",
    "Reason",
    "Refuse",
    "RestartPolicy",
    "Schedulable",
    "Scheduler",
    "Start",
    "StepGraph",
    "StepRun",
    "VariantTerms",
    "WakeAt",
    "allowed_variants",
    "held_rows_per_s",
    "worth_per_s",
]
