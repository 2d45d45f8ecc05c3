from . import algorithms as algorithms
from . import networks as networks
from . import tasks as tasks
from .collect.actor import Actor as Actor
from .collect.rollout import rollout as rollout
from .runs.evaluation import evaluate as evaluate
from .runs.notebook import build as build
from .runs.notebook import save as save
from .runs.notebook import train as train
from .runs.run import Run as Run
from .runs.run import load as load

__version__: str
