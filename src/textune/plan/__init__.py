"""Forecasts of runs before they are trained, from a rehearsal on this machine."""

from textune.lazy import make_callable
from textune.plan.api import list_plans, plan_runs
from textune.plan.forecast import Forecast

make_callable(__name__)

__all__ = ["Forecast", "list_plans", "plan_runs"]
