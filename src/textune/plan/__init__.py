"""The forecast of a run before it is trained: a rehearsal on this machine, and what follows from it."""

from textune.plan.api import list_plans, plan_runs
from textune.plan.forecast import Forecast
from textune.plan.rehearsal import rehearse

__all__ = ["Forecast", "list_plans", "plan_runs", "rehearse"]
