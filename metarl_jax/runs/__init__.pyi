from .build import Experiment as Experiment
from .build import rehearse as rehearse
from .run import Run as Run
from .run import choose_directory as choose_directory
from .run import load as load
from .run import prepare_directory as prepare_directory
from .run import prepared as prepared
from .training import train as train
